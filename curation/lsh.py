"""All pairs of 64-bit hashes within a Hamming radius: exact, by the bins of `curation.hash_bands`.

Measured on one core of a shared machine (tests/benchmarks/near_duplicates.py; the figures stand in curation/README.md).
Memory: 40 bytes a hash beyond the input, and 17 bytes a pair found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curation.compiled import compiled
from curation.hash_bands import (
    bands_of,
    bin_bits,
    bin_of,
    binned,
    bit_distance,
    check_radius,
    choice,
    choices,
    is_first_choice,
    mask_of,
    num_bands_for,
    num_near,
)

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
    check_radius(radius)
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
    check_radius(radius)
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
    for band, mask in reversed(list(enumerate(bands_of(num_bands)))):
        found[differences & mask == 0] = band
    return found


Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def _within(hashes: np.ndarray, radius: int) -> Found:
    """All pairs of positions of distinct `hashes` within the radius, each once."""
    if len(hashes) < 2:
        return _nothing()
    bands = bands_of(num_bands_for(len(hashes), len(hashes), len(hashes) ** 2 / 2, radius))
    found = [
        _self_round(hashes, bands, choice(chosen), bin_bits(len(hashes)), np.uint64(radius))
        for chosen in choices(len(bands), radius)
    ]
    return _joined(found)


def _between(small: np.ndarray, large: np.ndarray, radius: int) -> Found:
    """All pairs of a position in `small` and one in `large` (distinct hashes each) within the radius, each once."""
    if len(small) == 0 or len(large) == 0:
        return _nothing()
    bands = bands_of(num_bands_for(len(small), len(large), float(len(small)) * len(large), radius))
    found = [
        _cross_round(small, large, bands, choice(chosen), bin_bits(len(small)), np.uint64(radius))
        for chosen in choices(len(bands), radius)
    ]
    return _joined(found)


def _nothing() -> Found:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)


def _joined(found: list[Found]) -> Found:
    x, y, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return x, y, distance


@compiled
def _grown(x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same arrays with room for twice as many pairs."""
    more_x, more_y = np.empty(2 * x.size, np.int64), np.empty(2 * x.size, np.int64)
    more_distance = np.empty(2 * x.size, np.uint8)
    more_x[: x.size], more_y[: x.size], more_distance[: x.size] = x, y, distance
    return more_x, more_y, more_distance


@compiled
def _self_round(
    hashes: np.ndarray, bands: np.ndarray, chosen: np.ndarray, bits: int, radius: np.uint64
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of one array that this choice of bands has to report."""
    begins, ordered, positions = binned(hashes, mask_of(bands, chosen), bits)
    x, y, distance = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.uint8)
    found = 0
    for each in range(begins.size - 1):
        for k in range(begins[each], begins[each + 1]):
            value = ordered[k]
            if num_near(value, ordered, k + 1, begins[each + 1], radius) == 0:
                continue
            # a frame of a film is near those beside it, which lie beside it here, too; the rest of its bin is not near
            for start in range(k + 1, begins[each + 1], _STRETCH):
                stop = min(start + _STRETCH, begins[each + 1])
                if num_near(value, ordered, start, stop, radius) == 0:
                    continue
                for other in range(start, stop):
                    apart = bit_distance(value ^ ordered[other])
                    if apart <= radius and is_first_choice(value ^ ordered[other], bands, chosen):
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
    mask = mask_of(bands, chosen)
    begins, ordered, positions = binned(small, mask, bits)
    x, y, distance = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.uint8)
    found = 0
    for k in range(large.size):
        value = large[k]
        each = np.int64(bin_of(value, mask, bits))
        if num_near(value, ordered, begins[each], begins[each + 1], radius) == 0:
            continue
        for other in range(begins[each], begins[each + 1]):
            apart = bit_distance(value ^ ordered[other])
            if apart <= radius and is_first_choice(value ^ ordered[other], bands, chosen):
                if found == x.size:
                    x, y, distance = _grown(x, y, distance)
                x[found], y[found], distance[found] = positions[other], k, apart
                found += 1
    return x[:found], y[:found], distance[:found]


def _sorted_pairs(i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> Pairs:
    order = np.lexsort((j, i))
    return Pairs(i[order].astype(np.int64), j[order].astype(np.int64), distance[order].astype(np.uint8))
