"""Copies among videos or among sounds by their fingerprints, with the offset at which one lies in the other.

Equal or near hashes of two media vote for a time offset; an offset with enough votes is checked over the whole overlap,
so that two films that share a logo, a black frame or a beat are not taken for copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.lsh import hamming_pairs

MAX_COMMON = 200
"""Times that one hash may occur in all media together; more common ones (a test card, a drum loop) do not vote."""
VOTES_AT_A_TIME = 1 << 22
"""That are held before they are counted together; some 250 MB."""

_VOTES = np.dtype([("pair", "<i8"), ("offset_us", "<i8"), ("count", "<i8")])  # equal offsets come from the same steps


@dataclass(frozen=True)
class Track:
    """Fingerprints of one medium: hashes (uint64 or uint32) at start_s + k * step_s; is_known: false where a frame is
    too flat or too quiet to vote."""

    hashes: npt.NDArray[np.uint64] | npt.NDArray[np.uint32]
    is_known: npt.NDArray[np.bool_]
    step_s: float
    start_s: float = 0.0


@dataclass(frozen=True)
class Match:
    """a, b: positions in the list, a < b. offset_s: what happens at t in a is at t + offset_s in b. overlap_s: how long
    they share; distance: mean share of differing bits there (0-0.5)."""

    a: int
    b: int
    offset_s: float
    overlap_s: float
    distance: float


@dataclass(frozen=True)
class MatchRule:
    """radius: bits in which two hashes may differ to vote. min_votes: for one offset. tolerance_s: votes this near are
    for one offset. max_distance: of the overlap. min_overlap_s, min_share: of the shorter medium."""

    radius: int
    min_votes: int
    tolerance_s: float
    max_distance: float
    min_overlap_s: float = 2.0
    min_share: float = 0.3


VIDEO_RULE = MatchRule(radius=10, min_votes=4, tolerance_s=0.2, max_distance=0.22)
"""Unrelated frames differ in 0.5 of their bits, neighbouring ones of a moving picture in up to 0.2."""
AUDIO_RULE = MatchRule(radius=0, min_votes=4, tolerance_s=0.05, max_distance=0.35)
"""0.35: the paper's bound, a false alarm in 10^20 for 3 s."""


@dataclass(frozen=True)
class Asked:
    """Which pairs are looked for: those with a new medium, and of media on two sides only, where there are sides.

    is_new: bool [n]. side: int64 [n].
    """

    is_new: npt.NDArray[np.bool_]
    side: npt.NDArray[np.int64] | None = None

    def of(self, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each pair is asked for."""
        asked = self.is_new[a] | self.is_new[b]
        return asked if self.side is None else asked & (self.side[a] != self.side[b])


def copies(
    tracks: Sequence[Track],
    rule: MatchRule,
    asked: Asked | None = None,
    common: npt.NDArray[np.uint64] | None = None,
) -> list[Match]:
    """Pairs of media that share a stretch; for each the offset with the most votes. Sorted by (a, b).

    asked: all pairs where None. common: hashes that do not vote; those that occur too often in `tracks` where None.
    """
    asked = asked or Asked(np.ones(len(tracks), bool))
    if common is None:
        common = common_hashes([known_hashes(track) for track in tracks])
    found = []
    for a, b, offsets, counts in _votes(tracks, rule, asked, common):
        offset = _mode(np.repeat(offsets, counts), rule.tolerance_s, rule.min_votes)
        match = None if offset is None else _checked(tracks, a, b, offset, rule)
        if match is not None:
            found.append(match)
    return found


def known_hashes(track: Track) -> npt.NDArray[np.uint64]:
    """Those that may vote: uint64 [k]."""
    return np.asarray(track.hashes[track.is_known], np.uint64)


def common_hashes(of_tracks: Sequence[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """Those that occur too often to vote: uint64 [k], rising."""
    values, counts = np.unique(np.concatenate([*of_tracks, np.zeros(0, np.uint64)]), return_counts=True)
    return np.asarray(values[counts > MAX_COMMON])


def _votes(
    tracks: Sequence[Track], rule: MatchRule, asked: Asked, common: npt.NDArray[np.uint64]
) -> Iterator[tuple[int, int, npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
    """(a, b, offsets, votes for each) of the pairs that have enough votes, by (a, b). Near hashes vote."""
    known = [known_hashes(track) for track in tracks]
    hashes = np.concatenate([*known, np.zeros(0, np.uint64)])
    times = [track.start_s + np.flatnonzero(track.is_known) * track.step_s for track in tracks]
    owner = np.repeat(np.arange(len(tracks)), [len(each) for each in known])
    votes_for = ~np.isin(hashes, common)
    hashes, owner, when = hashes[votes_for], owner[votes_for], np.concatenate([*times, np.zeros(0)])[votes_for]
    order = np.argsort(hashes, kind="stable")
    owner, when = owner[order], when[order]
    values, starts, counts = np.unique(hashes[order], return_index=True, return_counts=True)
    x = y = np.arange(len(values))
    if rule.radius > 0 and len(values):
        pairs = hamming_pairs(values, rule.radius)
        x, y = np.concatenate([x, pairs.i]), np.concatenate([y, pairs.j])
    tally = _Tally(len(tracks))
    ends = np.cumsum(counts[x] * counts[y])
    begin = 0
    while begin < len(x):  # some pairs of values at a time: what one of them holds is bounded by MAX_COMMON
        end = int(np.searchsorted(ends, (ends[begin - 1] if begin else 0) + VOTES_AT_A_TIME, side="right"))
        end = max(end, begin + 1)
        i, j = _occurrences(starts, counts, x[begin:end], y[begin:end])
        a, b, offset = owner[i], owner[j], when[j] - when[i]
        swap = a > b
        a, b, offset = np.where(swap, b, a), np.where(swap, a, b), np.where(swap, -offset, offset)
        # an equal value meets itself in both orders
        keep = (
            (a != b)
            & asked.of(a, b)
            & ~(swap & np.repeat(x[begin:end] == y[begin:end], counts[x][begin:end] * counts[y][begin:end]))
        )
        tally.add(a[keep], b[keep], offset[keep])
        begin = end
    yield from tally.pairs(rule.min_votes)


def _occurrences(
    starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each occurrence of the value x with each of the value y, for all pairs (x, y): positions of both."""
    sizes = counts[x] * counts[y]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    width = np.repeat(counts[y], sizes)
    return np.repeat(starts[x], sizes) + within // width, np.repeat(starts[y], sizes) + within % width


class _Tally:
    """Votes by pair and offset, counted together whenever as many have come as are held, so that memory grows with what
    differs and time with the votes."""

    def __init__(self, num_tracks: int) -> None:
        self._num = num_tracks
        self._counted = np.zeros(0, _VOTES)
        self._come: list[npt.NDArray[np.void]] = []
        self._num_come = 0

    def add(self, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], offset_s: npt.NDArray[np.float64]) -> None:
        votes = np.empty(len(a), _VOTES)
        votes["pair"], votes["count"] = a * self._num + b, 1
        votes["offset_us"] = np.rint(offset_s * 1e6).astype(np.int64)
        self._come.append(_counted(votes))
        self._num_come += len(self._come[-1])
        if self._num_come > max(VOTES_AT_A_TIME, len(self._counted)):
            self._count()

    def _count(self) -> None:
        self._counted = _counted(np.concatenate([self._counted, *self._come]))
        self._come, self._num_come = [], 0

    def pairs(self, min_votes: int) -> Iterator[tuple[int, int, npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
        """By (a, b), those with enough votes."""
        self._count()
        votes = self._counted
        pairs, starts = np.unique(votes["pair"], return_index=True)
        totals = np.add.reduceat(votes["count"], starts) if len(starts) else starts
        ends = np.append(starts[1:], len(votes))
        for k in np.flatnonzero(totals >= min_votes):
            a, b = divmod(int(pairs[k]), self._num)
            own = votes[starts[k] : ends[k]]
            yield a, b, own["offset_us"] / 1e6, own["count"]


def _counted(votes: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Each pair and offset once, in order, with the sum of its votes."""
    votes = votes[np.lexsort((votes["offset_us"], votes["pair"]))]
    if len(votes) == 0:
        return votes
    is_first = (np.diff(votes["pair"]) != 0) | (np.diff(votes["offset_us"]) != 0)
    first = np.flatnonzero(np.append(True, is_first))
    made = votes[first]
    made["count"] = np.add.reduceat(votes["count"], first)
    return made


def _mode(offsets: npt.NDArray[np.float64], tolerance_s: float, min_votes: int) -> float | None:
    """The offset that most votes are near; None where too few agree."""
    ordered = np.sort(offsets)
    ends = np.searchsorted(ordered, ordered + tolerance_s, side="right")
    counts = ends - np.arange(len(ordered))
    best = int(counts.argmax())
    return float(np.median(ordered[best : ends[best]])) if counts[best] >= min_votes else None


def _checked(tracks: Sequence[Track], a: int, b: int, offset_s: float, rule: MatchRule) -> Match | None:
    """Compare all of the overlap at the offset and a step around it; None where it is too short or too different."""
    first, second = tracks[a], tracks[b]
    best: tuple[float, float, int] | None = None
    step = first.step_s
    around = int(np.ceil(rule.tolerance_s / step))
    for shift in range(-around, around + 1):
        lag = round((offset_s + first.start_s - second.start_s) / step) + shift
        begin, end = max(0, -lag), min(len(first.hashes), len(second.hashes) - lag)
        if end <= begin:
            continue
        known = first.is_known[begin:end] & second.is_known[begin + lag : end + lag]
        if known.sum() < rule.min_votes:
            continue
        bits = np.bitwise_count(first.hashes[begin:end] ^ second.hashes[begin + lag : end + lag])[known]
        distance = float(bits.mean()) / (8 * first.hashes.dtype.itemsize)
        exact = lag * step + second.start_s - first.start_s
        if best is None or distance < best[0]:
            best = distance, exact, end - begin
    if best is None:
        return None
    distance, exact, length = best
    shorter_s = min(len(first.hashes), len(second.hashes)) * step
    is_long = length * step >= min(rule.min_overlap_s, shorter_s) and length * step >= rule.min_share * shorter_s
    return Match(a, b, exact, length * step, distance) if is_long and distance <= rule.max_distance else None
