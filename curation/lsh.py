"""All pairs of 64-bit hashes within a Hamming radius: exact, by pigeonhole bands and sorting.

Cut 64 bits into b bands: two hashes at distance r or less differ in at most r bands, so they agree in at least b - r.
For each choice of b - r bands, hashes are sorted by the bits of these bands, and those that agree are compared in full.
With b = r + 1 there are few sorts over few bits (many chance meetings); with more bands there are more sorts over more
bits. `_num_bands` picks the cheapest for the number of hashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

BITS = 64
MAX_RADIUS = 15
_CHUNK_PAIRS = 1 << 22
"""Candidate pairs compared at a time; bounds memory to about 200 MB."""
_MAX_CHOICES = 1000
_SORT_COST = 40.0
"""Cost of sorting one hash, in comparisons of one candidate pair (measured: about 100 ns and 10 ns at 10^6 hashes)."""


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
    a, b, distance = _distinct_pairs(values, radius)
    i, j = first[a], first[b]
    return _sorted_pairs(
        np.concatenate([center[members], np.minimum(i, j)]),
        np.concatenate([members, np.maximum(i, j)]),
        np.concatenate([np.zeros(len(members), np.uint8), distance]),
    )


def cross_pairs(a: np.ndarray, b: np.ndarray, radius: int) -> Pairs:
    """Pairs of a position i in `a` and a position j in `b` (uint64 each) at Hamming distance `radius` or less.

    Complete between the first positions of the distinct values of `a` and of `b`; equal values within one of the arrays
    are not repeated (link them by `hamming_pairs(.., 0)` of that array).
    """
    _check(radius)
    values_a, first_a = np.unique(a.astype(np.uint64), return_index=True)
    values_b, first_b = np.unique(b.astype(np.uint64), return_index=True)
    joined = np.concatenate([values_a, values_b])
    from_b = np.arange(len(joined)) >= len(values_a)
    x, y, distance = _distinct_pairs(joined, radius, from_b)
    swap = from_b[x]
    x, y = np.where(swap, y, x), np.where(swap, x, y)
    return _sorted_pairs(first_a[x], first_b[y - len(values_a)], distance)


def _check(radius: int) -> None:
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"radius {radius} is outside 0 .. {MAX_RADIUS}: unrelated pictures are about 32 bits apart")


def _distinct_pairs(
    hashes: np.ndarray, radius: int, side: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of positions within the radius, each once; with `side` only those of a False and a True one."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    num_bands = _num_bands(len(hashes), radius)
    edges = [BITS * k // num_bands for k in range(num_bands + 1)]
    masks = [np.uint64(((1 << edges[k + 1]) - 1) ^ ((1 << edges[k]) - 1)) for k in range(num_bands)]
    for chosen in combinations(masks, num_bands - radius):
        mask = np.bitwise_or.reduce(np.array(chosen, np.uint64))
        for x, y in _equal_pairs(hashes & mask):
            if side is not None:
                differ = side[x] != side[y]
                x, y = x[differ], y[differ]
            distance = np.bitwise_count(hashes[x] ^ hashes[y])
            near = distance <= radius
            found.append((np.minimum(x, y)[near], np.maximum(x, y)[near], distance[near]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    x, y, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    _, once = np.unique(x * len(hashes) + y, return_index=True)  # a pair may agree in several choices of bands
    return x[once], y[once], distance[once]


def _num_bands(num_hashes: int, radius: int) -> int:
    """The number of bands with the least expected work for evenly distributed hashes."""

    def cost(num_bands: int) -> float:
        agreeing = num_bands - radius
        meetings = num_hashes**2 / 2 / 2.0 ** (BITS * agreeing // num_bands)
        return comb(num_bands, agreeing) * (num_hashes * _SORT_COST + meetings)

    allowed = [bands for bands in range(radius + 1, BITS + 1) if comb(bands, bands - radius) <= _MAX_CHOICES]
    return min(allowed, key=cost)


def _equal_pairs(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of positions with equal keys, some millions at a time, however large a set of equal keys is."""
    if len(keys) == 0:
        return
    order = np.argsort(keys)
    ordered = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(begins[1:], len(keys))
    # Each position meets the later ones of its set: as many as stand between it and the set's end.
    num_later = np.repeat(ends, ends - begins) - np.arange(len(keys)) - 1
    total = np.concatenate([[0], np.cumsum(num_later)])
    position = 0
    while position < len(keys):
        stop = int(np.searchsorted(total, total[position] + _CHUNK_PAIRS, side="right")) - 1
        stop = min(max(stop, position + 1), len(keys))
        counts = num_later[position:stop]
        left = np.repeat(np.arange(position, stop), counts)
        within = np.arange(len(left)) - np.repeat(total[position:stop] - total[position], counts)
        if len(left):
            yield order[left], order[left + 1 + within]
        position = stop


def _sorted_pairs(i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> Pairs:
    order = np.lexsort((j, i))
    return Pairs(i[order].astype(np.int64), j[order].astype(np.int64), distance[order].astype(np.uint8))
