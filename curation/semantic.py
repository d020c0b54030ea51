"""Semantic duplicates: vectors of nearly one direction, compared within clusters of k-means; and who of them stays.

The idea is SemDeDup's (arXiv 2303.09540), written anew from its description. What differs:

- A vector is removed only for one that stays: what is removed removes nobody else (no chains). The rule: walk the
  vectors in the order of preference; keep one unless one that was kept before is within the similarity of it. So no two
  that stay are near each other, and each removed one is near one that stays: a maximal independent set.
- All pairs of a cluster are compared, in tiles; clusters of more than `MAX_CLUSTER` vectors are split by k-means again.
  As in SemDeDup, two vectors in different clusters are never compared.
- Equal vectors are one vector here, so that a million copies cost nothing.

Everything is exact and so the same on every machine and for any number of workers and threads: vectors are scaled to
length `SCALE` and rounded to whole numbers, whose products, added in any order, are whole numbers below 2^24, which
float32 holds exactly. The similarity is that of the rounded vectors, off by about 0.0001 (float16, in which embeddings
are stored, costs as much).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from curation.compiled import compiled

# Shapes: N vectors of D numbers, K centroids.

SCALE = 4000
"""Length of the whole-number vectors. By Cauchy and Schwarz no sum of products exceeds SCALE^2 = 1.6e7 < 2^24 = 1.68e7,
with room for what rounding adds to the length (at most sqrt(D) / 2: D up to 8,000)."""
MAX_DIMENSIONS = 8000
SAMPLE_PER_CLUSTER = 256
"""Vectors of the sample on which k-means is run, for each cluster; the custom of faiss."""
MAX_CLUSTER = 20_000
"""Vectors of a cluster above which it is split: 2e8 comparisons, a second or two."""
MAX_PAIRS = 50_000_000
"""Pairs of one cluster, about 1.2 GB; more mean that the similarity asked for does not tell things apart."""
_TILE = 2048
_MAX_DEPTH = 8


class Neighbours(NamedTuple):
    """Pairs of positions i < j, sorted, each once, of vectors that are near each other and not equal."""

    i: np.ndarray
    """int64."""
    j: np.ndarray
    """int64."""
    similarity: np.ndarray
    """float64: cosine of the rounded vectors."""


def whole_numbers(vectors_ND: np.ndarray) -> np.ndarray:
    """float32 (N, D) of whole numbers: each vector scaled to length `SCALE` and rounded; zeros stay zeros.

    Raises ValueError for more than `MAX_DIMENSIONS` dimensions.
    """
    if vectors_ND.shape[1] > MAX_DIMENSIONS:
        raise ValueError(
            f"vectors of {vectors_ND.shape[1]} dimensions; at most {MAX_DIMENSIONS} can be compared exactly"
        )
    wide = vectors_ND.astype(np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    scaled: np.ndarray = np.rint(wide * (SCALE / np.maximum(length, 1e-30))).astype(np.float32)
    return scaled


def num_clusters(num_vectors: int) -> int:
    """The square root: comparing vectors with centroids and with one another then costs about the same."""
    return max(1, round(math.sqrt(num_vectors)))


def fit_centroids(sample_ND: np.ndarray, num: int, iterations: int) -> np.ndarray:
    """Spherical k-means: at most `num` centroids (K, D) of length `SCALE`, whole numbers like the sample's vectors.

    The order of the sample decides where the centroids begin: at its first different vectors. A cluster that runs empty
    keeps its centroid.
    """
    _, first = np.unique(sample_ND, axis=0, return_index=True)
    centroids_KD = sample_ND[np.sort(first)[:num]]
    for _ in range(iterations):
        nearest_N, _ = assign(sample_ND, centroids_KD)
        sizes_K = np.bincount(nearest_N, minlength=len(centroids_KD))
        filled = np.flatnonzero(sizes_K)
        mean_KD = np.rint(_sums(sample_ND, nearest_N, len(centroids_KD))[filled] * 16 / sizes_K[filled, None])
        length = np.sqrt((mean_KD * mean_KD).sum(axis=1, keepdims=True))
        before = centroids_KD
        centroids_KD = before.copy()
        centroids_KD[filled] = np.rint(mean_KD * (SCALE / np.maximum(length, 1.0))).astype(np.float32)
        if np.array_equal(before, centroids_KD):
            break
    return centroids_KD


def _sums(vectors_ND: np.ndarray, nearest_N: np.ndarray, num: int) -> np.ndarray:
    """float64 (K, D): the sum of each cluster's vectors, exact, since whole numbers below 2^53 are."""
    sums_KD = np.zeros((num, vectors_ND.shape[1]))
    for start in range(0, len(vectors_ND), _TILE):
        nearest = nearest_N[start : start + _TILE]
        order = np.argsort(nearest, kind="stable")
        filled, begin = np.unique(nearest[order], return_index=True)
        sums_KD[filled] += np.add.reduceat(vectors_ND[start + order].astype(np.float64), begin, axis=0)
    return sums_KD


def assign(vectors_ND: np.ndarray, centroids_KD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 (N): the centroid of the largest product with each vector, the first of equal ones; and the product."""
    nearest_N = np.zeros(len(vectors_ND), np.int64)
    product_N = np.zeros(len(vectors_ND), np.float32)
    for start in range(0, len(vectors_ND), _TILE):
        products_NK = vectors_ND[start : start + _TILE] @ centroids_KD.T
        best = products_NK.argmax(axis=1)
        nearest_N[start : start + _TILE] = best
        product_N[start : start + _TILE] = products_NK[np.arange(len(best)), best]
    return nearest_N, product_N


def first_of_same(vectors_ND: np.ndarray) -> np.ndarray:
    """int64 (N): the position of the first equal vector."""
    if len(vectors_ND) == 0:
        return np.zeros(0, np.int64)
    _, first, inverse = np.unique(vectors_ND.astype(np.int16), axis=0, return_index=True, return_inverse=True)
    same: np.ndarray = first[inverse.ravel()].astype(np.int64)
    return same


def neighbours(vectors_ND: np.ndarray, similarity: float, iterations: int = 10, depth: int = 0) -> Neighbours:
    """All pairs of different vectors of one cluster at the similarity or above; a cluster that is too big is split.

    Call it with different vectors only (`first_of_same`), in an order of their own, such as that of their uids. Raises
    ValueError for more than `MAX_PAIRS`.
    """
    if len(vectors_ND) <= MAX_CLUSTER or depth == _MAX_DEPTH:
        return _all_pairs(vectors_ND, similarity)
    parts = -(-len(vectors_ND) * 2 // MAX_CLUSTER)
    step = max(1, len(vectors_ND) // (parts * SAMPLE_PER_CLUSTER))
    nearest_N, _ = assign(vectors_ND, fit_centroids(vectors_ND[::step], parts, iterations))
    if (nearest_N == nearest_N[0]).all():
        return _all_pairs(vectors_ND, similarity)
    found = []
    for part in np.unique(nearest_N):
        rows = np.flatnonzero(nearest_N == part)
        inner = neighbours(vectors_ND[rows], similarity, iterations, depth + 1)
        found.append((rows[inner.i], rows[inner.j], inner.similarity))
    return _sorted(found)


def _all_pairs(vectors_ND: np.ndarray, similarity: float) -> Neighbours:
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    num_found = 0
    length_N = np.sqrt((vectors_ND.astype(np.float64) ** 2).sum(axis=1))
    for top in range(0, len(vectors_ND), _TILE):
        for left in range(top, len(vectors_ND), _TILE):
            products = vectors_ND[top : top + _TILE] @ vectors_ND[left : left + _TILE].T
            # a little lower than asked for, then exactly
            i, j = np.nonzero(products >= np.float32(similarity * SCALE * SCALE * 0.97))
            i, j, product = i + top, j + left, products[i, j].astype(np.float64)
            cosine = product / np.maximum(length_N[i] * length_N[j], 1.0)
            near = (i < j) & (cosine >= similarity)
            found.append((i[near], j[near], np.minimum(cosine[near], 1.0)))
            num_found += int(near.sum())
            if num_found > MAX_PAIRS:
                raise ValueError(
                    f"more than {MAX_PAIRS:,} pairs among {len(vectors_ND):,} vectors reach the similarity "
                    f"{similarity}: nearly everything is alike at it; ask for a higher one"
                )
    return _sorted(found)


def _sorted(found: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Neighbours:
    if not found:
        return Neighbours(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    i, j, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((j, i))
    return Neighbours(i[order], j[order], cosine[order])


@compiled
def _walk(
    order: np.ndarray, same: np.ndarray, begin: np.ndarray, other: np.ndarray, cosine: np.ndarray, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    survivor = np.full(order.size, -1, np.int64)
    nearness = np.ones(order.size, np.float64)
    keeper = np.full(order.size, -1, np.int64)  # of a set of equal vectors: the one that stays
    for node in order:
        vector = same[node]
        if keeper[vector] >= 0:
            survivor[node] = keeper[vector]
            continue
        best = -1
        for k in range(begin[vector], begin[vector + 1]):
            kept = keeper[other[k]]
            if kept >= 0 and (best < 0 or place[kept] < place[best]):
                best = kept
                nearness[node] = cosine[k]
        if best >= 0:
            survivor[node] = best
        else:
            keeper[vector] = node
    return survivor, nearness


def survivors(order: np.ndarray, same: np.ndarray, pairs: Neighbours) -> tuple[np.ndarray, np.ndarray]:
    """int64 (N): who removed each vector, -1 for those that stay; float64 (N): how similar the two are (1 for equal).

    `order`: int64 (N), the positions from the most to the least preferred; `same`: see `first_of_same`; `pairs`: among
    the first of each set of equal vectors. Of several that stay and are near, the most preferred removes.
    """
    num = len(order)
    i = np.concatenate([pairs.i, pairs.j])
    j = np.concatenate([pairs.j, pairs.i])
    cosine = np.concatenate([pairs.similarity, pairs.similarity])
    by_node = np.argsort(i, kind="stable")
    begin = np.searchsorted(i[by_node], np.arange(num + 1))
    place = np.empty(num, np.int64)
    place[order] = np.arange(num)
    who, near = _walk(order.astype(np.int64), same.astype(np.int64), begin, j[by_node], cosine[by_node], place)
    return who, near
