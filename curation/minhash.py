"""Near-duplicate texts: MinHash signatures, cut into bands, and the exact Jaccard similarity of all that meet.

Two shingle sets of Jaccard similarity s have the same least element under a random order with probability s (Broder
1997). A band is r such orders; two texts meet in a band if they agree in all r, so they meet in at least one of b bands
with probability

    1 - (1 - s^r)^b

the S-curve of locality sensitive hashing. `choose_bands` takes the steepest curve that reaches the wanted recall at
the wanted similarity within a budget of hashes; for 0.8 and 0.99 it is r = 6, b = 16:

    s          0.2     0.3     0.4     0.5     0.6     0.7     0.8     0.9
    meeting    0.001   0.012   0.064   0.222   0.535   0.865   0.992   1.000

Every pair that meets is compared exactly, so nothing below the similarity is ever reported; what is missed is what the
curve says. Of the texts of one normal form (`curation.shingles`) a search compares one.
An order is a -> (a x + b) mod 2^32 with odd a over 32 mixed bits of a shingle's hash; a and b come from a counter by
SplitMix64, so they are the same on every machine and with every version of numpy.
"""

from __future__ import annotations

from math import log, log1p
from typing import NamedTuple

import numpy as np

from curation.compiled import compiled
from curation.components import Merged
from curation.set_join import Asked, Found, join_within, merge_runs, runs
from curation.shingles import ShingleSets, mixed

MAX_HASHES = 128
"""Hashes a text is given at most; 128 is the custom of datasketch, datatrove and rensa."""
MAX_RUN = 2048
"""Texts that meet in one band up to which all are compared with all; of more (a template with thousands of fillings)
only those that share one of their rarest shingles, which loses no pair (`curation.set_join`)."""
_CHUNK = 2048
"""Texts whose signatures are in memory at a time: 1 MB, which stays in the cache (0.1 us a text instead of 0.4)."""


class Bands(NamedTuple):
    """How a signature is cut: `num_bands` bands of `rows` hashes each."""

    num_bands: int
    rows: int

    def probability(self, similarity: float) -> float:
        """That two texts of this Jaccard similarity meet in at least one band."""
        return float(1 - (1 - similarity**self.rows) ** self.num_bands)


class TextPairs(NamedTuple):
    """Pairs of positions i < j, each once, sorted, with their exact Jaccard similarity."""

    i: np.ndarray
    """int64."""
    j: np.ndarray
    """int64."""
    similarity: np.ndarray
    """float64, 0 to 1."""


def choose_bands(similarity: float, recall: float, max_hashes: int = MAX_HASHES) -> Bands:
    """The bands with most rows whose curve reaches `recall` at `similarity` with at most `max_hashes` hashes.

    More rows mean fewer texts that meet for nothing. Raises ValueError where no bands reach it.
    """
    if not (0 < similarity <= 1 and 0 < recall < 1):
        raise ValueError(f"similarity {similarity} must be above 0 and at most 1, recall {recall} between 0 and 1")
    for rows in range(max_hashes, 0, -1):
        missed = 1 - similarity**rows
        num_bands = 1 if missed == 0 else int(np.ceil(log1p(-recall) / log(missed) - 1e-9)) if missed < 1 else None
        if num_bands is not None and num_bands * rows <= max_hashes:
            return Bands(max(1, num_bands), rows)
    raise ValueError(
        f"{max_hashes} hashes cannot find {recall:.3%} of the pairs of similarity {similarity}: "
        "ask for a higher similarity or a lower recall"
    )


def orders(num_hashes: int) -> tuple[np.ndarray, np.ndarray]:
    """a (odd) and b of each order, uint32 (num_hashes), by SplitMix64 of its number."""
    with np.errstate(over="ignore"):
        state = np.arange(1, num_hashes + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(32)).astype(np.uint32) | np.uint32(1), state.astype(np.uint32)


@compiled
def _signatures(hashes: np.ndarray, offsets: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """uint32 (N, hashes)."""
    out = np.empty((offsets.size - 1, a.size), np.uint32)
    least = np.empty(a.size, np.uint32)
    for row in range(offsets.size - 1):
        least[:] = np.uint32(0xFFFFFFFF)
        for place in range(offsets[row], offsets[row + 1]):
            key = np.uint32(hashes[place] >> np.uint64(32))
            for k in range(a.size):
                least[k] = min(least[k], np.uint32(a[k] * key + b[k]))
        out[row] = least
    return out


def signatures(sets: ShingleSets, num_hashes: int) -> np.ndarray:
    """uint32 (N, num_hashes): the least value of each order over each text's shingles; 2^32 - 1 for an empty set."""
    return np.asarray(_signatures(sets.hashes, sets.offsets, *orders(num_hashes)))


@compiled
def _keys(signature: np.ndarray, num_bands: int, rows: int) -> np.ndarray:
    """uint64 (bands, N): a hash of each band."""
    out = np.empty((num_bands, signature.shape[0]), np.uint64)
    for row in range(signature.shape[0]):
        for band in range(num_bands):
            key = np.uint64(band)
            for k in range(band * rows, (band + 1) * rows):
                key = mixed(key + np.uint64(signature[row, k]) + np.uint64(0x9E3779B97F4A7C15))
            out[band, row] = key
    return out


def band_keys(sets: ShingleSets, bands: Bands) -> np.ndarray:
    """uint64 (bands, N): texts meet in a band where these are equal. Memory: 8 bytes a band and text."""
    a, b = orders(bands.num_bands * bands.rows)
    num = len(sets.offsets) - 1
    out = np.empty((bands.num_bands, num), np.uint64)
    for start in range(0, num, _CHUNK):
        offsets = sets.offsets[start : start + _CHUNK + 1]
        out[:, start : start + _CHUNK] = _keys(_signatures(sets.hashes, offsets, a, b), *bands)
    return out


def meeting(
    sets: ShingleSets, keys: np.ndarray, similarity: float, all_pairs: bool = False, asked: Asked | None = None
) -> TextPairs:
    """Verified pairs of texts with equal keys (uint64, bands x N) in a band.

    Pairs of texts that others join already are left out, unless `all_pairs`: their connected components are those of
    all pairs that meet, whatever the order of the texts. `asked`: of which pairs; all if None.
    """
    merged = Merged.of(len(sets.offsets) - 1)
    asked = asked or Asked.all(len(sets.offsets) - 1)
    found: list[Found] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for band in keys:
        order, starts, sizes = runs_of(band, asked)
        few = sizes <= MAX_RUN
        found.append(merge_runs(sets, order, starts[few], sizes[few], similarity, merged, all_pairs, asked))
        for start, size in zip(starts[~few], sizes[~few], strict=True):
            rows = np.sort(order[start : start + size])
            found.append(join_within(sets, rows, similarity, merged, all_pairs, asked))
    return _each_once(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def runs_of(keys: np.ndarray, asked: Asked) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of keys, and where in it runs of equal ones begin and how long they are: two texts, one of them new."""
    order = np.argsort(keys)
    starts, sizes = runs(keys[order])
    num_new = np.concatenate([[0], np.cumsum(asked.is_new[order])])
    several = (sizes > 1) & (num_new[starts + sizes] > num_new[starts])
    return order, starts[several], sizes[several]


def _each_once(i: np.ndarray, j: np.ndarray, shared: np.ndarray) -> TextPairs:
    order = np.lexsort((j, i))
    i, j, shared = i[order], j[order], shared[order]
    once = np.ones(len(i), bool)
    once[1:] = (i[1:] != i[:-1]) | (j[1:] != j[:-1])
    return TextPairs(i[once], j[once], shared[once])
