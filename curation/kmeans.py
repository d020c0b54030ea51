"""Spherical k-means: centroids of unit vectors, by cosine. The same input gives the same centroids.

Legend of shapes: N points, K centroids, D dimensions.
"""

from __future__ import annotations

import numpy as np

from curation.similarity import nearest


def spherical_kmeans(points_ND: np.ndarray, num_clusters: int, iterations: int) -> np.ndarray:
    """float32 (K, D): unit centroids of the unit vectors `points_ND`, K being at most the number of distinct points.

    Starts from the first distinct points, so the order of the points is the draw. Lloyd's iterations: each point goes
    to the centroid with the largest dot product (the first of equals), each centroid becomes the mean direction of its
    points. A centroid without points takes over the point that is farthest from its own. Stops where nothing moves.
    Source: Dhillon and Modha 2001, "Concept decompositions".
    """
    centroids_KD = points_ND[_first_distinct(points_ND, num_clusters)].astype(np.float32)
    if not len(centroids_KD):
        return centroids_KD
    before = None
    for _ in range(iterations):
        cluster_N, similarity_N = nearest(points_ND, centroids_KD)
        if before is not None and np.array_equal(cluster_N, before):
            break
        before = cluster_N.copy()
        _fill_empty(cluster_N, similarity_N, len(centroids_KD))
        centroids_KD = _mean_directions(points_ND, cluster_N, centroids_KD)
    return centroids_KD


def _first_distinct(points_ND: np.ndarray, wanted: int) -> list[int]:
    """Indices of the first `wanted` points that differ from all before them."""
    found: dict[bytes, int] = {}
    for index, point in enumerate(points_ND):
        found.setdefault(point.tobytes(), index)
        if len(found) == wanted:
            break
    return list(found.values())


def _fill_empty(cluster_N: np.ndarray, similarity_N: np.ndarray, num_clusters: int) -> None:
    """Give each empty cluster, in place, the farthest point of those whose cluster has others."""
    sizes_K = np.bincount(cluster_N, minlength=num_clusters)
    empty = np.flatnonzero(sizes_K == 0)
    if not len(empty):
        return
    farthest = iter(np.argsort(similarity_N, kind="stable"))
    for cluster in empty:
        point = next(each for each in farthest if sizes_K[cluster_N[each]] > 1)
        sizes_K[cluster_N[point]] -= 1
        cluster_N[point], sizes_K[cluster] = cluster, 1


def _mean_directions(points_ND: np.ndarray, cluster_N: np.ndarray, old_KD: np.ndarray) -> np.ndarray:
    """The points' mean direction for each cluster, summed in float64; the old centroid where they cancel out."""
    order = np.argsort(cluster_N, kind="stable")
    starts = np.searchsorted(cluster_N[order], np.arange(len(old_KD)))
    sums_KD = np.zeros(old_KD.shape, np.float64)
    for cluster, start in enumerate(starts):
        end = starts[cluster + 1] if cluster + 1 < len(starts) else len(order)
        sums_KD[cluster] = points_ND[order[start:end]].sum(axis=0, dtype=np.float64)
    norms_K = np.linalg.norm(sums_KD, axis=1)
    means_KD = sums_KD / np.where(norms_K > 0, norms_K, 1)[:, None]
    return np.where((norms_K > 1e-9)[:, None], means_KD, old_KD).astype(np.float32)
