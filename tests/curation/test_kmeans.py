"""Spherical k-means against Lloyd's iterations written out."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.kmeans import spherical_kmeans


def points(count: int, dim: int, seed: int, distinct: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(distinct or count, dim)).astype(np.float32)
    vectors = vectors[rng.integers(0, len(vectors), count)] if distinct else vectors
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def dull(points_ND: np.ndarray, wanted: int, iterations: int) -> list[np.ndarray]:
    """Lists and loops, in float64."""
    centroids: list[np.ndarray] = []
    for point in points_ND:
        if len(centroids) < wanted and not any((point == each).all() for each in centroids):
            centroids.append(point)
    last = None
    for _ in range(iterations):
        cosines = [[float(np.dot(p.astype(float), c.astype(float))) for c in centroids] for p in points_ND]
        cluster = [row.index(max(row)) for row in cosines]
        if cluster == last:
            break
        last = list(cluster)
        far = sorted(range(len(points_ND)), key=lambda i: cosines[i][last[i]])
        for k in range(len(centroids)):
            if k not in last:
                moved = next(i for i in far if cluster.count(cluster[i]) > 1)
                far = far[far.index(moved) + 1 :]
                cluster[moved] = k
        for k in range(len(centroids)):
            total = sum(p.astype(float) for p, c in zip(points_ND, cluster, strict=True) if c == k)
            centroids[k] = total / np.linalg.norm(total)
    return centroids


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 10_000), st.integers(1, 6))
def test_as_written_out(count: int, wanted: int, seed: int, iterations: int) -> None:
    found = spherical_kmeans(points(count, 6, seed), wanted, iterations)
    np.testing.assert_allclose(found, dull(points(count, 6, seed), wanted, iterations), atol=1e-5)


def test_finds_clusters_that_are_there() -> None:
    rng = np.random.default_rng(0)
    centers = np.eye(5, dtype=np.float32)
    noisy = centers[rng.integers(0, 5, 500)] + rng.normal(0, 0.02, (500, 5)).astype(np.float32)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    found = spherical_kmeans(noisy, 5, 50)
    # with random starts two centroids may share a center; each one found is then still near one
    assert (found @ centers.T).max(axis=1).min() > 0.7
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6


def test_no_more_clusters_than_different_points_and_none_of_nothing() -> None:
    assert len(spherical_kmeans(points(50, 4, 1, distinct=3), 10, 5)) <= 3
    assert spherical_kmeans(np.zeros((0, 4), np.float32), 10, 5).shape == (0, 4)


def test_points_that_cancel_out_leave_the_centroid_where_it_was() -> None:
    pair = np.array([[1, 0], [-1, 0]], np.float32)
    np.testing.assert_array_equal(spherical_kmeans(pair, 1, 5), pair[:1])


def test_an_empty_cluster_takes_the_farthest_point() -> None:
    # the second start is nearly the first: all points prefer one of them, then the third cluster is refilled
    base = np.array([[1, 0], [0.9999, 0.0141], [0, 1], [0.1, 0.995], [-1, 0.01]], np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    found = spherical_kmeans(np.concatenate([base, base[2:]]), 4, 10)
    cluster = (base @ found.T).argmax(axis=1)
    assert len(set(cluster.tolist())) == 4
