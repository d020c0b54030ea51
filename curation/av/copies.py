"""Copies among videos or among sounds by their fingerprints, with the offset at which one lies in the other.

Equal or near hashes of two media vote for a time offset; an offset with enough votes is checked over the whole overlap,
so that two films that share a logo, a black frame or a beat are not taken for copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.lsh import cross_pairs

_MAX_COMMON = 200
"""Times that one hash may occur in all media together; more common ones (a test card, a drum loop) do not vote."""


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


def copies(tracks: Sequence[Track], rule: MatchRule) -> list[Match]:
    """All pairs of media that share a stretch; for each the offset with the most votes. Sorted by (a, b)."""
    votes = _votes(tracks, rule)
    found = []
    for (a, b), offsets in sorted(votes.items()):
        if len(offsets) < rule.min_votes:
            continue
        offset = _mode(np.array(offsets), rule.tolerance_s, rule.min_votes)
        match = None if offset is None else _checked(tracks, a, b, offset, rule)
        if match is not None:
            found.append(match)
    return found


def _votes(tracks: Sequence[Track], rule: MatchRule) -> dict[tuple[int, int], list[float]]:
    """For each pair of media the offsets that their near hashes suggest."""
    values = [track.hashes[track.is_known].astype(np.uint64) for track in tracks]
    if not values or not sum(map(len, values)):
        return {}
    hashes = np.concatenate(values)
    owner = np.repeat(np.arange(len(tracks)), [len(each) for each in values])
    times = np.concatenate([t.start_s + np.flatnonzero(t.is_known) * t.step_s for t in tracks])
    distinct, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])
    pairs = _near_values(distinct[counts <= _MAX_COMMON], rule.radius, np.flatnonzero(counts <= _MAX_COMMON))
    votes: dict[tuple[int, int], list[float]] = {}
    for x, y in pairs:
        left, right = order[starts[x] : starts[x + 1]], order[starts[y] : starts[y + 1]]
        for i in left.tolist():
            for j in right.tolist():
                if owner[i] < owner[j]:
                    votes.setdefault((int(owner[i]), int(owner[j])), []).append(float(times[j] - times[i]))
                elif owner[j] < owner[i] and x != y:
                    votes.setdefault((int(owner[j]), int(owner[i])), []).append(float(times[i] - times[j]))
    return votes


def _near_values(values: npt.NDArray[np.uint64], radius: int, places: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs (x <= y) of places of values within the radius, each value with itself included."""
    found = [(place, place) for place in places.tolist()]
    if radius > 0 and len(values):
        pairs = cross_pairs(values, values, radius)
        found += [(int(places[i]), int(places[j])) for i, j in zip(pairs.i, pairs.j, strict=True) if i < j]
    return found


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
