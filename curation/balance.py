"""Balancing, the arithmetic: counts of metadata entries, thresholds per language, keep probabilities, quotas.

Sources: MetaCLIP, arXiv 2309.16671, Algorithm 1 (a text is kept if one of its entries is drawn, each with probability
t / max(t, count); one draw with the probability of that is the same). MetaCLIP 2: the threshold of a language is the
count at which its tail has the share that the tail has in English. Temperature sampling: Devlin et al. 2018 and
Conneau et al. 2019, arXiv 1911.02116.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.compiled import compiled


class EntryCounts:
    """Texts for each entry id, and which language's entry it is; counted part by part."""

    def __init__(self) -> None:
        self.texts = np.zeros(0, np.int64)
        self.languages: list[str | None] = []
        self.language_of = np.zeros(0, np.int32)
        """For each id the place of its language in `languages`; -1 where it was never seen."""

    def add(self, entries: pa.Array | pa.ChunkedArray, language: str | None = None) -> None:
        """Count the texts of one language; `entries` are lists of distinct ids, nulls count as empty.

        Raises ValueError where an id was seen with another language.
        """
        place = self.languages.index(language) if language in self.languages else len(self.languages)
        self.languages += [language] if place == len(self.languages) else []
        lists = [_flat(chunk) for chunk in _chunks(entries)]
        size = max((int(ids.max()) + 1 for _, ids in lists if ids.size), default=0)
        counts = np.zeros(size, np.int64)
        for _, ids in lists:
            _count(ids, counts)
        self._grow(size)
        self.texts[:size] += counts
        here = self.language_of[:size]
        other = (counts > 0) & (here != place) & (here >= 0)
        if other.any():
            number = int(other.argmax())
            raise ValueError(
                f"entry {number} is matched by texts of {self.languages[here[number]]!r} and of {language!r}: the "
                "thresholds of languages need a list with entries for each language"
            )
        here[counts > 0] = place

    def _grow(self, size: int) -> None:
        more = max(0, size - self.texts.size)
        self.texts = np.concatenate([self.texts, np.zeros(more, np.int64)])
        self.language_of = np.concatenate([self.language_of, np.full(more, -1, np.int32)])

    def of(self, language: str | None) -> np.ndarray:
        """The counts above zero of a language's entries, in rising order."""
        if language not in self.languages:
            return np.zeros(0, np.int64)
        return np.sort(self.texts[(self.language_of == self.languages.index(language)) & (self.texts > 0)])


def tail_share(counts: np.ndarray, t: int) -> float:
    """The share of all matches that entries with fewer than `t` texts have; counts above zero."""
    return float(counts[counts < t].sum() / counts.sum())


def threshold_at(counts: np.ndarray, share: float) -> int:
    """The count at which the cumulative share of the rising counts is nearest to `share`; at a tie the smaller.

    `counts` are above zero and in rising order: MetaCLIP 2 as released counts the zeros too, and where the share is
    nearest to theirs its threshold is 0 and the language vanishes. The round trip t -> share -> t gives the largest
    count below t (or the smallest count of all), not t.
    """
    cumulative = np.cumsum(counts) / counts.sum()
    return int(counts[np.abs(cumulative - share).argmin()])


def thresholds(counts: EntryCounts, t: int, reference: str | None = None) -> dict[str | None, int]:
    """Language -> threshold: `t` for all, or, with a reference language, t for it and for each other the count at which
    its tail has the share that the reference's tail has at t.

    Never falls when t grows. Raises ValueError where no text matches an entry of the reference.
    """
    if reference is None:
        return dict.fromkeys(counts.languages, t)
    known = counts.of(reference)
    if not known.size:
        present = ", ".join(sorted(str(name) for name in counts.languages if counts.of(name).size)) or "none"
        raise ValueError(
            f"no text matches an entry of {reference!r}, so there is no tail share at t = {t:,} to follow; languages "
            f"with matches: {present}. Name one of them in `per_language`, or leave it out for one t everywhere"
        )
    share = tail_share(known, t)
    others = {name: counts.of(name) for name in counts.languages if name != reference}
    return {reference: t} | {name: threshold_at(found, share) for name, found in others.items() if found.size}


class KeepProbability:
    """1 - prod over the entries of a text of (1 - t / max(t, count)); 0 where it has none."""

    def __init__(self, counts: EntryCounts, by_language: Mapping[str | None, int]) -> None:
        """Entries that no counted text has are rare: their texts are kept."""
        limits = np.array([by_language.get(name, 1) for name in counts.languages] or [1], np.float64)[
            counts.language_of
        ]
        self._logs = np.full(counts.texts.size, -np.inf)
        head = counts.texts > limits
        self._logs[head] = np.log1p(-limits[head] / counts.texts[head])

    def __call__(self, entries: pa.Array | pa.ChunkedArray) -> pa.Array:
        """One probability for each list of ids; null for null."""
        found = [self._chunk(chunk) for chunk in _chunks(entries)]
        return found[0] if len(found) == 1 else pa.concat_arrays([pa.array([], pa.float64()), *found])

    def _chunk(self, entries: pa.ListArray) -> pa.Array:
        offsets, ids = _flat(entries)
        found = np.empty(len(entries))
        _probabilities(offsets, ids, self._logs, found)
        return pa.array(found, mask=entries.is_null().to_numpy(zero_copy_only=False) if entries.null_count else None)


@compiled
def _probabilities(offsets: np.ndarray, ids: np.ndarray, logs: np.ndarray, found: np.ndarray) -> None:
    """The sum of logarithms keeps what a long product of numbers near one would lose."""
    for row in range(found.size):
        total = 0.0
        for place in range(offsets[row], offsets[row + 1]):
            number = ids[place]
            if number >= logs.size or logs[number] == -np.inf:  # rare: it is kept for certain
                total = -np.inf
                break
            total += logs[number]
        found[row] = 1.0 if total == -np.inf else 0.0 - np.expm1(total)


@compiled
def _count(ids: np.ndarray, counts: np.ndarray) -> None:
    for place in range(ids.size):
        counts[ids[place]] += 1


def _chunks(entries: pa.Array | pa.ChunkedArray) -> list[pa.ListArray]:
    return entries.chunks if isinstance(entries, pa.ChunkedArray) else [entries]


def _flat(entries: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Where each list begins and ends, counted from the first one, and the ids; nulls are empty."""
    if not len(entries):
        return np.zeros(1, np.int32), np.zeros(0, np.int32)
    if entries.null_count:  # what stands behind a null does not count
        lengths = pc.fill_null(pc.list_value_length(entries), 0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
        return offsets, entries.flatten().to_numpy(zero_copy_only=False)
    offsets = entries.offsets.to_numpy()
    ids = entries.values.to_numpy(zero_copy_only=False)
    return offsets - offsets[0], ids[offsets[0] : offsets[-1]]


def temperature_quotas(counts: Sequence[int], exponent: float, total: float) -> list[int]:
    """How many of each group to keep so that the groups' sizes are as `count ** exponent`, about `total` in all.

    A group gives at most what it has, and the others then share what it lacks; quotas are rounded up, so that no group
    vanishes. 1 leaves the groups' shares as they are, 0 makes them equal. Never falls when `total` grows.
    """
    sizes = np.asarray(counts, np.float64)
    weights = sizes**exponent
    if total >= sizes.sum():
        return [int(size) for size in sizes]
    # full groups are those with the least count / weight; fill them in that order until the rest can share
    order = np.argsort(sizes / weights, kind="stable")
    left, weight_left = float(total), float(weights.sum())
    scale = 0.0
    for place in order:
        scale = left / weight_left
        if scale * weights[place] <= sizes[place]:
            break
        left -= sizes[place]
        weight_left -= weights[place]
    # a hair less than the quotient, so that rounding errors do not round a whole number up
    return [int(n) for n in np.minimum(sizes, np.ceil(scale * weights * (1 - 1e-12)))]
