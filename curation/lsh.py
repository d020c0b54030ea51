"""All pairs of 64-bit hashes within a Hamming radius: exact, by pigeonhole bands.

Cut 64 bits into b bands: two hashes at distance r or less differ in at most r bands, so they agree in at least b - r.
For each choice of b - r bands, hashes are put into bins by the bits of these bands, and those of a bin are compared in
full. A pair that agrees in more bands than it must is reported at the first choice that it agrees in, and only there.
With b = r + 1 there are few rounds over few bits (many chance meetings); with more bands there are more rounds over
more bits. `_num_bands` picks the cheapest for the number of hashes.

Measured on one core of a shared machine (tests/benchmarks/near_duplicates.py; the figures stand in curation/README.md).
Memory: 40 bytes a hash beyond the input, and 17 bytes a pair found.
"""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from curation.compiled import compiled

BITS = 64
MAX_RADIUS = 16
"""Half of the 32 bits that unrelated pictures are apart; with it every pair is compared in about 1 of 6 rounds."""
_MAX_CHOICES = 1000
_BIN_COST = 40.0
"""Cost of putting one hash into a bin, in comparisons of one pair (measured: 27 to 40 ns, and 0.6 to 0.8 ns)."""
_PROBE_COST = 15.0
"""The same for looking one hash up in bins that are there (5 to 15 ns)."""
_STRETCH = 8
"""Hashes of a bin that are looked at together where some are near: frames of films are found in a third of the time."""


class Pairs(NamedTuple):
    """Pairs of positions with their distance, sorted by (i, j), each pair once."""

    i: np.ndarray
    """int64."""
    j: np.ndarray
    """int64."""
    distance: np.ndarray
    """uint8, bits."""


def hamming_pairs(hashes: np.ndarray, radius: int) -> Pairs:
    """All pairs i < j of `hashes` (uint64) at Hamming distance `radius` or less.

    Equal hashes are collapsed first, so that a million blank pictures cost a million links and not their square: the
    members of a set of equal hashes are linked as a star, each to the first of them at distance 0, and only these first
    members ("representatives") are compared with others. So every pair of distinct values within the radius is there
    once, between representatives, and the connected components are those of the complete list of pairs.
    """
    _check(radius)
    values, first, inverse = np.unique(hashes.astype(np.uint64), return_index=True, return_inverse=True)
    center = first[inverse]
    members = np.flatnonzero(center != np.arange(len(hashes)))
    a, b, distance = _within(values, radius)
    i, j = first[a], first[b]
    return _sorted_pairs(
        np.concatenate([center[members], np.minimum(i, j)]),
        np.concatenate([members, np.maximum(i, j)]),
        np.concatenate([np.zeros(len(members), np.uint8), distance]),
    )


def cross_pairs(a: np.ndarray, b: np.ndarray, radius: int) -> Pairs:
    """Pairs of a position i in `a` and a position j in `b` (uint64 each) at Hamming distance `radius` or less.

    Complete between the first positions of the distinct values of `a` and of `b`; equal values within one of the arrays
    are not repeated (link them by `hamming_pairs(.., 0)` of that array). Cheap where one of the two is small.
    """
    _check(radius)
    values_a, first_a = np.unique(a.astype(np.uint64), return_index=True)
    values_b, first_b = np.unique(b.astype(np.uint64), return_index=True)
    if len(values_a) <= len(values_b):
        x, y, distance = _between(values_a, values_b, radius)
    else:
        y, x, distance = _between(values_b, values_a, radius)
    return _sorted_pairs(first_a[x], first_b[y], distance)


def first_band(differences: np.ndarray, num_bands: int) -> np.ndarray:
    """int64 (N): the first of `num_bands` bands in which hashes with this difference agree; num_bands if in none."""
    found = np.full(len(differences), num_bands, np.int64)
    for band, mask in reversed(list(enumerate(_bands(num_bands)))):
        found[differences & mask == 0] = band
    return found


def _check(radius: int) -> None:
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"radius {radius} is outside 0 .. {MAX_RADIUS}: unrelated pictures are about 32 bits apart")


Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def _within(hashes: np.ndarray, radius: int) -> Found:
    """All pairs of positions of distinct `hashes` within the radius, each once."""
    if len(hashes) < 2:
        return _nothing()
    bands = _bands(_num_bands(len(hashes), len(hashes), len(hashes) ** 2 / 2, radius))
    found = [
        _self_round(hashes, bands, _choice(chosen), _bin_bits(len(hashes)), np.uint64(radius))
        for chosen in _choices(len(bands), radius)
    ]
    return _joined(found)


def _between(small: np.ndarray, large: np.ndarray, radius: int) -> Found:
    """All pairs of a position in `small` and one in `large` (distinct hashes each) within the radius, each once."""
    if len(small) == 0 or len(large) == 0:
        return _nothing()
    bands = _bands(_num_bands(len(small), len(large), float(len(small)) * len(large), radius))
    found = [
        _cross_round(small, large, bands, _choice(chosen), _bin_bits(len(small)), np.uint64(radius))
        for chosen in _choices(len(bands), radius)
    ]
    return _joined(found)


def _nothing() -> Found:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)


def _joined(found: list[Found]) -> Found:
    x, y, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return x, y, distance


def _num_bands(num_small: int, num_large: int, num_pairs: float, radius: int) -> int:
    """The number of bands with the least expected work for evenly distributed hashes."""

    def cost(num_bands: int) -> float:
        agreeing = num_bands - radius
        meetings = num_pairs / 2.0 ** min(BITS * agreeing / num_bands, _bin_bits(num_small))
        return float(comb(num_bands, agreeing) * (num_small * _BIN_COST + num_large * _PROBE_COST + meetings))

    allowed = [bands for bands in range(radius + 1, BITS + 1) if comb(bands, bands - radius) <= _MAX_CHOICES]
    return min(allowed, key=cost)


def _bin_bits(num_hashes: int) -> int:
    """About one bin for each hash."""
    return max(4, int(num_hashes).bit_length())


def _bands(num_bands: int) -> np.ndarray:
    """uint64 (num_bands): the bits of each band."""
    edges = [BITS * k // num_bands for k in range(num_bands + 1)]
    return np.array([((1 << edges[k + 1]) - 1) ^ ((1 << edges[k]) - 1) for k in range(num_bands)], np.uint64)


def _choices(num_bands: int, radius: int) -> combinations[tuple[int, ...]]:
    return combinations(range(num_bands), num_bands - radius)


def _choice(chosen: tuple[int, ...]) -> np.ndarray:
    return np.array(chosen, np.int64)


@compiled
def bit_distance(difference: np.uint64) -> np.uint64:
    """Number of set bits; in this form the compiler finds the processor's instruction for it."""
    one, two, four = np.uint64(1), np.uint64(2), np.uint64(4)
    fives, threes, nibbles = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
    x = difference - ((difference >> one) & fives)
    x = (x & threes) + ((x >> two) & threes)
    x = (x + (x >> four)) & nibbles
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@compiled
def _is_first_choice(difference: np.uint64, bands: np.ndarray, chosen: np.ndarray) -> bool:
    """Whether the first bands in which two hashes agree are just the chosen ones."""
    place = 0
    for band in range(bands.size):
        if difference & bands[band] == np.uint64(0):
            if band != chosen[place]:
                return False
            place += 1
            if place == chosen.size:
                return True
    return False


@compiled
def _bin(value: np.uint64, mask: np.uint64, bits: int) -> np.uint64:
    """The bin of a hash: the masked bits, mixed (multiplication by the golden ratio, top bits)."""
    return ((value & mask) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)


@compiled
def _binned(hashes: np.ndarray, mask: np.uint64, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each bin begins (int64, bins + 1), the hashes in the order of the bins, and their positions (int32).

    In two steps, first by the upper bits of the bin: 256 places to write to at a time, and then a part of the bins at a
    time, stay in the processor's caches; in one step each hash waits for memory several times.
    """
    upper = min(8, bits)
    lower = bits - upper
    parts, values, places = _scattered(hashes, np.arange(hashes.size, dtype=np.int32), mask, bits, lower)
    begins = np.zeros((1 << bits) + 1, np.int64)
    ordered, positions = np.empty(hashes.size, np.uint64), np.empty(hashes.size, np.int32)
    place = np.empty(1 << lower, np.int64)
    for part in range(parts.size - 1):
        first = part << lower
        place[:] = 0
        for k in range(parts[part], parts[part + 1]):
            place[np.int64(_bin(values[k], mask, bits)) - first] += 1
        at = parts[part]
        for each in range(place.size):
            begins[first + each] = at
            at, place[each] = at + place[each], at
        for k in range(parts[part], parts[part + 1]):
            found = np.int64(_bin(values[k], mask, bits)) - first
            ordered[place[found]], positions[place[found]] = values[k], places[k]
            place[found] += 1
    begins[begins.size - 1] = hashes.size
    return begins, ordered, positions


@compiled
def _scattered(
    hashes: np.ndarray, positions: np.ndarray, mask: np.uint64, bits: int, lower: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes and positions in the order of the upper bits of their bins, and where each part begins."""
    begins = np.zeros((1 << (bits - lower)) + 1, np.int64)
    for k in range(hashes.size):
        begins[(np.int64(_bin(hashes[k], mask, bits)) >> lower) + 1] += 1
    for k in range(1, begins.size):
        begins[k] += begins[k - 1]
    place = begins.copy()
    values, places = np.empty(hashes.size, np.uint64), np.empty(hashes.size, np.int32)
    for k in range(hashes.size):
        part = np.int64(_bin(hashes[k], mask, bits)) >> lower
        values[place[part]], places[place[part]] = hashes[k], positions[k]
        place[part] += 1
    return begins, values, places


@compiled
def _num_near(value: np.uint64, others: np.ndarray, begin: int, end: int, radius: np.uint64) -> int:
    """How many of a stretch of hashes are near: a loop without a branch, which the compiler turns into vectors."""
    found = 0
    for k in range(begin, end):
        found += int(bit_distance(value ^ others[k]) <= radius)
    return found


@compiled
def _grown(x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same arrays with room for twice as many pairs."""
    more_x, more_y = np.empty(2 * x.size, np.int64), np.empty(2 * x.size, np.int64)
    more_distance = np.empty(2 * x.size, np.uint8)
    more_x[: x.size], more_y[: x.size], more_distance[: x.size] = x, y, distance
    return more_x, more_y, more_distance


@compiled
def _mask(bands: np.ndarray, chosen: np.ndarray) -> np.uint64:
    mask = np.uint64(0)
    for k in range(chosen.size):
        mask |= bands[chosen[k]]
    return mask


@compiled
def _self_round(
    hashes: np.ndarray, bands: np.ndarray, chosen: np.ndarray, bits: int, radius: np.uint64
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of one array that this choice of bands has to report."""
    begins, ordered, positions = _binned(hashes, _mask(bands, chosen), bits)
    x, y, distance = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.uint8)
    found = 0
    for each in range(begins.size - 1):
        for k in range(begins[each], begins[each + 1]):
            value = ordered[k]
            if _num_near(value, ordered, k + 1, begins[each + 1], radius) == 0:
                continue
            # a frame of a film is near those beside it, which lie beside it here, too; the rest of its bin is not near
            for start in range(k + 1, begins[each + 1], _STRETCH):
                stop = min(start + _STRETCH, begins[each + 1])
                if _num_near(value, ordered, start, stop, radius) == 0:
                    continue
                for other in range(start, stop):
                    apart = bit_distance(value ^ ordered[other])
                    if apart <= radius and _is_first_choice(value ^ ordered[other], bands, chosen):
                        if found == x.size:
                            x, y, distance = _grown(x, y, distance)
                        x[found], y[found], distance[found] = positions[k], positions[other], apart
                        found += 1
    return x[:found], y[:found], distance[:found]


@compiled
def _cross_round(
    small: np.ndarray, large: np.ndarray, bands: np.ndarray, chosen: np.ndarray, bits: int, radius: np.uint64
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of two arrays that this choice of bands has to report: the large one looks up bins of the small one."""
    mask = _mask(bands, chosen)
    begins, ordered, positions = _binned(small, mask, bits)
    x, y, distance = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.uint8)
    found = 0
    for k in range(large.size):
        value = large[k]
        each = np.int64(_bin(value, mask, bits))
        if _num_near(value, ordered, begins[each], begins[each + 1], radius) == 0:
            continue
        for other in range(begins[each], begins[each + 1]):
            apart = bit_distance(value ^ ordered[other])
            if apart <= radius and _is_first_choice(value ^ ordered[other], bands, chosen):
                if found == x.size:
                    x, y, distance = _grown(x, y, distance)
                x[found], y[found], distance[found] = positions[other], k, apart
                found += 1
    return x[:found], y[:found], distance[:found]


def _sorted_pairs(i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> Pairs:
    order = np.lexsort((j, i))
    return Pairs(i[order].astype(np.int64), j[order].astype(np.int64), distance[order].astype(np.uint8))
