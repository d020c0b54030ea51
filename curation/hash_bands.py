"""Bins of 64-bit hashes by the bits that near ones share: pigeonhole bands.

Cut 64 bits into b bands: two hashes at distance r or less differ in at most r bands, so they agree in at least b - r.
For each choice of b - r bands, hashes are put into bins by the bits of these bands, and those of a bin are compared in
full. A pair that agrees in more bands than it must is reported at the first choice that it agrees in, and only there.
With b = r + 1 there are few rounds over few bits (many chance meetings); with more bands there are more rounds over
more bits. `num_bands_for` picks the cheapest for the number of hashes.
"""

from __future__ import annotations

from itertools import combinations
from math import comb

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


def check_radius(radius: int) -> None:
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"radius {radius} is outside 0 .. {MAX_RADIUS}: unrelated pictures are about 32 bits apart")


def num_bands_for(num_small: int, num_large: int, num_pairs: float, radius: int) -> int:
    """The number of bands with the least expected work for evenly distributed hashes."""

    def cost(num_bands: int) -> float:
        agreeing = num_bands - radius
        meetings = num_pairs / 2.0 ** min(BITS * agreeing / num_bands, bin_bits(num_small))
        return float(comb(num_bands, agreeing) * (num_small * _BIN_COST + num_large * _PROBE_COST + meetings))

    allowed = [bands for bands in range(radius + 1, BITS + 1) if comb(bands, bands - radius) <= _MAX_CHOICES]
    return min(allowed, key=cost)


def bin_bits(num_hashes: int) -> int:
    """About one bin for each hash."""
    return max(4, int(num_hashes).bit_length())


def bands_of(num_bands: int) -> np.ndarray:
    """uint64 (num_bands): the bits of each band."""
    edges = [BITS * k // num_bands for k in range(num_bands + 1)]
    return np.array([((1 << edges[k + 1]) - 1) ^ ((1 << edges[k]) - 1) for k in range(num_bands)], np.uint64)


def choices(num_bands: int, radius: int) -> combinations[tuple[int, ...]]:
    return combinations(range(num_bands), num_bands - radius)


def choice(chosen: tuple[int, ...]) -> np.ndarray:
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
def is_first_choice(difference: np.uint64, bands: np.ndarray, chosen: np.ndarray) -> bool:
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
def bin_of(value: np.uint64, mask: np.uint64, bits: int) -> np.uint64:
    """The bin of a hash: the masked bits, mixed (multiplication by the golden ratio, top bits)."""
    return ((value & mask) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)


@compiled
def binned(hashes: np.ndarray, mask: np.uint64, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
            place[np.int64(bin_of(values[k], mask, bits)) - first] += 1
        at = parts[part]
        for each in range(place.size):
            begins[first + each] = at
            at, place[each] = at + place[each], at
        for k in range(parts[part], parts[part + 1]):
            found = np.int64(bin_of(values[k], mask, bits)) - first
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
        begins[(np.int64(bin_of(hashes[k], mask, bits)) >> lower) + 1] += 1
    for k in range(1, begins.size):
        begins[k] += begins[k - 1]
    place = begins.copy()
    values, places = np.empty(hashes.size, np.uint64), np.empty(hashes.size, np.int32)
    for k in range(hashes.size):
        part = np.int64(bin_of(hashes[k], mask, bits)) >> lower
        values[place[part]], places[place[part]] = hashes[k], positions[k]
        place[part] += 1
    return begins, values, places


@compiled
def num_near(value: np.uint64, others: np.ndarray, begin: int, end: int, radius: np.uint64) -> int:
    """How many of a stretch of hashes are near: a loop without a branch, which the compiler turns into vectors."""
    found = 0
    for k in range(begin, end):
        found += int(bit_distance(value ^ others[k]) <= radius)
    return found


@compiled
def mask_of(bands: np.ndarray, chosen: np.ndarray) -> np.uint64:
    mask = np.uint64(0)
    for k in range(chosen.size):
        mask |= bands[chosen[k]]
    return mask
