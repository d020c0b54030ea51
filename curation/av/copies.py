"""Copies among videos or among sounds by their fingerprints, with the offset at which one lies in the other.

Equal or near hashes of two media vote for a time offset; an offset with enough votes is checked over the whole overlap,
so that two films that share a logo, a black frame or a beat are not taken for copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.hash_bands import bit_distance
from curation.owner_pairs import owner_pairs

MAX_COMMON = 200
"""Times that one hash may occur in all media together; more common ones (a test card, a drum loop) do not vote."""

SAMPLED = 512
"""Frames of each medium, evenly, by which it is told how much it is alike all the time."""


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
    """near: bits in which the nearest hashes of two media may differ, or they are not compared at all. radius: bits in
    which two hashes may differ to vote. min_votes: for one offset. tolerance_s: votes this near are for one offset.
    max_distance: of the overlap; above sure only where frames that do not belong together differ max_ratio times as
    much: media that share a logo or a frame around the picture are alike all the time. min_overlap_s, min_share: of the
    shorter medium."""

    near: int
    radius: int
    min_votes: int
    tolerance_s: float
    max_distance: float
    sure: float
    max_ratio: float = 0.5
    min_overlap_s: float = 2.0
    min_share: float = 0.3


VIDEO_RULE = MatchRule(near=8, radius=10, min_votes=4, tolerance_s=0.2, max_distance=0.22, sure=0.16)
"""Unrelated frames differ in 0.5 of their bits, neighbouring ones of a moving picture in up to 0.2. To look for pairs
at 10 bits among millions of hashes costs four times what it does at 8, and copies have some nearer than that."""
AUDIO_RULE = MatchRule(near=0, radius=0, min_votes=4, tolerance_s=0.05, max_distance=0.35, sure=0.35)
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
    voters = _Voters.of(tracks, common)
    pairs = voters.near(rule.near, asked)
    enough = _num_votes(pairs, voters.begins, voters.hashes, np.uint64(rule.radius)) >= rule.min_votes
    found = []
    for a, b in pairs[enough].tolist():
        steps = _steps(a, b, voters.begins, voters.hashes, voters.places, np.uint64(rule.radius))
        late_s = tracks[b].start_s - tracks[a].start_s
        offset = _mode(steps * tracks[a].step_s + late_s, rule.tolerance_s, rule.min_votes)
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


@dataclass(frozen=True)
class _Voters:
    """The hashes that vote, those of each medium rising. hashes: uint64 [n]; places: int32 [n], each one's step in its
    medium; owner: int32 [n]; begins: int64 [media + 1], where those of each medium begin."""

    hashes: npt.NDArray[np.uint64]
    places: npt.NDArray[np.int32]
    owner: npt.NDArray[np.int32]
    begins: npt.NDArray[np.int64]

    @classmethod
    def of(cls, tracks: Sequence[Track], common: npt.NDArray[np.uint64]) -> _Voters:
        begins = np.append(0, np.cumsum([int(track.is_known.sum()) for track in tracks], dtype=np.int64))
        hashes, places = np.zeros(begins[-1], np.uint64), np.zeros(begins[-1], np.int32)
        for number, track in enumerate(tracks):
            known = known_hashes(track)
            order = np.argsort(known, kind="stable")
            own, place = known[order], np.flatnonzero(track.is_known).astype(np.int32)[order]
            if len(common):
                votes = common[np.searchsorted(common, own) % len(common)] != own
                own, place = own[votes], place[votes]
            begin = begins[number]
            begins[number + 1] = end = begin + len(own)  # of those that vote
            hashes[begin:end], places[begin:end] = own, place
        owner = np.repeat(np.arange(len(tracks), dtype=np.int32), np.diff(begins))
        return cls(hashes[: begins[-1]], places[: begins[-1]], owner, begins)

    def near(self, radius: int, asked: Asked) -> npt.NDArray[np.int64]:
        """The pairs of media asked for that have a hash each within the radius: [k, 2], rising."""
        once = np.append(True, (np.diff(self.hashes) != 0) | (np.diff(self.owner) != 0))[: len(self.hashes)]
        hashes, owner = self.hashes[once], self.owner[once]
        is_new = asked.is_new[owner]
        sides: list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_] | None]] = [(is_new, None), (is_new, ~is_new)]
        if asked.side is not None:
            one = asked.side[owner] == asked.side.max(initial=0)
            sides = [(one & is_new, ~one), (one & ~is_new, ~one & is_new)]
        found = []
        for a, b in sides:
            other = (None, None) if b is None else (hashes[b], owner[b])
            found.append(owner_pairs(hashes[a], owner[a], radius, *other))
        return np.asarray(np.unique(np.concatenate(found), axis=0))


@compiled
def _num_votes(
    pairs: npt.NDArray[np.int64], begins: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64], radius: np.uint64
) -> npt.NDArray[np.int64]:
    """How many hashes of the two media of each pair are within the radius of each other."""
    num = np.zeros(len(pairs), np.int64)
    for k in range(len(pairs)):
        a, b = pairs[k]
        first = begins[b]
        for x in range(begins[a], begins[a + 1]):
            while radius == 0 and first < begins[b + 1] and hashes[first] < hashes[x]:
                first += 1
            for y in range(first, begins[b + 1]):
                if radius == 0 and hashes[y] != hashes[x]:
                    break
                num[k] += int(bit_distance(hashes[x] ^ hashes[y]) <= radius)
    return num


@compiled
def _steps(
    a: int,
    b: int,
    begins: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.uint64],
    places: npt.NDArray[np.int32],
    radius: np.uint64,
) -> npt.NDArray[np.int64]:
    """How many steps later in b than in a each two hashes are that are within the radius."""
    found = []
    for x in range(begins[a], begins[a + 1]):
        for y in range(begins[b], begins[b + 1]):
            if bit_distance(hashes[x] ^ hashes[y]) <= radius:
                found.append(np.int64(places[y]) - np.int64(places[x]))
    return np.array(found, dtype=np.int64)


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
    best: tuple[float, int, int] | None = None
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
        if best is None or distance < best[0]:
            best = distance, lag, end - begin
    if best is None:
        return None
    distance, lag, length = best
    shorter_s = min(len(first.hashes), len(second.hashes)) * step
    is_long = length * step >= min(rule.min_overlap_s, shorter_s) and length * step >= rule.min_share * shorter_s
    if not is_long or distance > rule.max_distance:
        return None
    if distance > rule.sure and distance > rule.max_ratio * _elsewhere(first, second, lag):
        return None
    return Match(a, b, lag * step + second.start_s - first.start_s, length * step, distance)


def _elsewhere(first: Track, second: Track, lag: int) -> float:
    """Mean share of differing bits of frames that are more than a second from belonging together; 0 without any."""
    i, j = (np.flatnonzero(track.is_known) for track in (first, second))
    i, j = (each[:: -(-len(each) // SAMPLED) or 1] for each in (i, j))
    is_far = np.abs(i[:, None] + lag - j[None, :]) * first.step_s > 1.0
    bits = np.bitwise_count(first.hashes[i][:, None] ^ second.hashes[j][None, :])[is_far]
    return float(bits.mean()) / (8 * first.hashes.dtype.itemsize) if len(bits) else 0.0
