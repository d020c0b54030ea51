"""The order in which samples are seen: keyed permutations and mixtures in closed form, so no list of it is ever kept.

What stands at place q of an endless sequence is computed from q and a key alone, so any number of workers finds the
same samples at the same places, and the whole state of a reader is one number.
"""

from __future__ import annotations

import numpy as np

from pretrain.keyed import U64, key, mix

ROUNDS = 6
"""4 make a strong pseudo-random permutation (Luby and Rackoff 1988), 2 more are for small halves."""
_MIN_HALF_BITS = 3
BLOCK = 4096
"""Places of a mixture among which each source has its share, to within a sample or two."""
_SHARE_UNIT = 1 << 32


class Permutation:
    """A bijection of [0, size), chosen by `salt`: a Feistel network on the next power of 4, walked until it is inside.

    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", cycle walking. At most 4 steps on average
    for sizes above 64.
    """

    def __init__(self, size: int, salt: np.uint64) -> None:
        if size < 1:
            raise ValueError(f"a permutation of {size} things")
        self.size = size
        half = max(_MIN_HALF_BITS, ((size - 1).bit_length() + 1) // 2)
        self._half, self._mask = np.uint64(half), np.uint64((1 << half) - 1)
        self._salts = [key("feistel", salt, number) for number in range(ROUNDS)]

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Where each place goes, int64."""
        values = self._once(places.astype(np.uint64))
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            values[outside] = self._once(values[outside])
            outside = outside[values[outside] >= self.size]
        return values.astype(np.int64)

    def _once(self, values: U64) -> U64:
        left, right = values >> self._half, values & self._mask
        for salt in self._salts:
            left, right = right, left ^ (mix(right, salt) & self._mask)
        return np.asarray((left << self._half) | right)


class Epochs:
    """The endless order of one dataset: epoch after epoch without a gap, each in an order of its own.

    Without weights every row comes once an epoch. With weights an epoch is as long, and a row comes floor(w) or ceil(w)
    times, w being its weight over the mean weight (systematic sampling, Madow 1949: one keyed offset an epoch).
    """

    def __init__(self, num_rows: int, version_digest: str, seed: int, weights: np.ndarray | None = None) -> None:
        self.num_rows, self._digest, self._seed = num_rows, version_digest, seed
        self._ends: np.ndarray | None = None
        if weights is not None:
            if len(weights) != num_rows or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
                raise ValueError(f"weights must be {num_rows} finite numbers, none below 0 and one above")
            ends = np.cumsum(weights, dtype=np.float64)
            self._ends = ends * (num_rows / ends[-1])

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(epoch, row) at each place, int64."""
        epochs, inside = np.divmod(places, self.num_rows)
        rows = np.empty(len(places), dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            salt = key("order", self._digest, self._seed, int(epoch))
            entries = Permutation(self.num_rows, salt)(inside[chosen])
            rows[chosen] = entries if self._ends is None else self._weighted(entries, salt)
        return epochs, rows

    def _weighted(self, entries: np.ndarray, salt: np.uint64) -> np.ndarray:
        assert self._ends is not None
        offset = float(mix(np.zeros(1, dtype=np.uint64), salt)[0] >> np.uint64(11)) / (1 << 53)
        found = np.searchsorted(self._ends, entries + offset, side="right")
        return np.minimum(found, self.num_rows - 1)


class Mixture:
    """Several endless sequences in one: place g belongs to one source, at that source's own next place.

    Every `BLOCK` places hold each source's share to within one sample (of three sources or more: two), in keyed order;
    over many blocks the shares are exact, for the counts are differences of floors of running shares.
    """

    def __init__(self, shares: tuple[float, ...], salt: np.uint64) -> None:
        total = sum(shares)
        if not shares or min(shares) <= 0:
            raise ValueError(f"shares must be above 0: {shares}")
        if min(shares) / total < 1 / BLOCK:
            raise ValueError(f"shares below 1/{BLOCK} of the whole cannot be kept: {shares}")
        running = np.cumsum(shares) / total
        self._running = [0, *(round(float(each) * _SHARE_UNIT) for each in running[:-1]), _SHARE_UNIT]
        self._salt = salt
        self.num_sources = len(shares)

    def _before(self, block: int) -> np.ndarray:
        """Samples of each source in the blocks before this one."""
        bounds = [block * BLOCK * each // _SHARE_UNIT for each in self._running]
        return np.diff(np.array(bounds, dtype=np.int64))

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(source, place in that source's own sequence) of each place, int64."""
        if self.num_sources == 1:
            return np.zeros(len(places), dtype=np.int64), places.astype(np.int64)
        sources, own = np.empty(len(places), dtype=np.int64), np.empty(len(places), dtype=np.int64)
        blocks, slots = np.divmod(places, BLOCK)
        for block in np.unique(blocks):
            chosen = blocks == block
            before = self._before(int(block))
            ends = np.cumsum(self._before(int(block) + 1) - before)
            ranks = Permutation(BLOCK, key("mixture", self._salt, int(block)))(slots[chosen])
            source = np.searchsorted(ends, ranks, side="right")
            sources[chosen] = source
            own[chosen] = before[source] + ranks - np.concatenate([[0], ends])[source]
        return sources, own
