"""Semantic duplicates against dull definitions: all pairs of a cluster, the greedy walk, and k-means step by step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import semantic
from curation.semantic import (
    SCALE,
    Neighbours,
    assign,
    first_of_same,
    fit_centroids,
    neighbours,
    num_clusters,
    survivors,
    whole_numbers,
)


def blobs(num: int, dimensions: int = 24, centers: int = 9, noise: float = 0.2, seed: int = 0) -> np.ndarray:
    """Vectors around some directions; a tenth of them are there twice."""
    rng = np.random.default_rng(seed)
    around = rng.normal(size=(centers, dimensions))
    vectors = around[rng.integers(0, centers, num)] + noise * rng.normal(size=(num, dimensions))
    vectors[: num // 10] = vectors[num // 10 : 2 * (num // 10)]
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    return unit


def dull_pairs(vectors: np.ndarray, similarity: float) -> list[tuple[int, int, float]]:
    whole = [[int(x) for x in row] for row in vectors.tolist()]
    squares = [sum(x * x for x in row) for row in whole]
    found = []
    for i in range(len(whole)):
        for j in range(i + 1, len(whole)):
            product = sum(x * y for x, y in zip(whole[i], whole[j], strict=True))
            cosine = product / (squares[i] ** 0.5 * squares[j] ** 0.5)
            if cosine >= similarity:
                found.append((i, j, min(cosine, 1.0)))
    return found


def listed(pairs: Neighbours) -> list[tuple[int, int, float]]:
    return list(zip(*(column.tolist() for column in pairs), strict=True))


@pytest.mark.parametrize("tile", [7, 2048])
def test_all_pairs_are_found_exactly(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "_TILE", tile)
    whole = whole_numbers(blobs(60))
    whole = whole[np.sort(np.unique(first_of_same(whole)))]
    for similarity in (0.5, 0.9, 0.99):
        expected = dull_pairs(whole, similarity)
        found = listed(neighbours(whole, similarity))
        assert [(i, j) for i, j, _ in found] == [(i, j) for i, j, _ in expected]
        assert [s for _, _, s in found] == pytest.approx([s for _, _, s in expected], abs=1e-12)


def test_products_are_exact_and_near_the_truth() -> None:
    vectors = blobs(200, dimensions=768)
    whole = whole_numbers(vectors)
    products = whole @ whole.T
    assert np.array_equal(products.astype(np.int64), whole.astype(np.int64) @ whole.astype(np.int64).T)
    wide = vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    exact = whole.astype(np.float64) / np.linalg.norm(whole.astype(np.float64), axis=1, keepdims=True)
    assert np.abs(wide @ wide.T - exact @ exact.T).max() < 5e-4
    assert np.array_equal(whole_numbers(vectors[:3]), whole[:3])
    with pytest.raises(ValueError, match="8001 dimensions"):
        whole_numbers(np.ones((1, 8001)))


def dull_k_means(sample: np.ndarray, num: int, iterations: int) -> list[list[int]]:
    rows = [[int(x) for x in row] for row in sample.tolist()]
    centroids: list[list[int]] = []
    for row in rows:
        if row not in centroids and len(centroids) < num:
            centroids.append(row)
    for _ in range(iterations):
        members: list[list[list[int]]] = [[] for _ in centroids]
        for row in rows:
            products = [sum(x * y for x, y in zip(row, c, strict=True)) for c in centroids]
            members[products.index(max(products))].append(row)
        for k, some in enumerate(members):
            if some:
                mean = [round(16 * sum(column) / len(some)) for column in zip(*some, strict=True)]
                length = max(1.0, sum(x * x for x in mean) ** 0.5)
                centroids[k] = [round(x * (SCALE / length)) for x in mean]
    return centroids


@pytest.mark.parametrize("tile", [11, 2048])
def test_k_means_is_the_definition(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "_TILE", tile)
    sample = whole_numbers(blobs(120, noise=0.4))
    assert fit_centroids(sample, 6, 4).astype(int).tolist() == dull_k_means(sample, 6, 4)
    few = np.repeat(whole_numbers(blobs(3)), 4, axis=0)
    assert len(fit_centroids(few, 6, 3)) == len(np.unique(few, axis=0))


def test_clusters_hold_what_belongs_together() -> None:
    vectors = whole_numbers(blobs(900, noise=0.1))
    nearest, product = assign(vectors, fit_centroids(vectors, 9, 10))
    pairs = neighbours(vectors, 0.99)
    together = (nearest[pairs.i] == nearest[pairs.j]).mean()
    assert together > 0.7
    assert np.all(product <= SCALE * SCALE * 1.03)
    assert num_clusters(0) == 1
    assert num_clusters(1_000_000) == 1000


def test_a_big_cluster_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = whole_numbers(blobs(600, noise=0.02))
    vectors = vectors[np.sort(np.unique(first_of_same(vectors)))]
    whole = set(listed(neighbours(vectors, 0.98)))
    monkeypatch.setattr(semantic, "MAX_CLUSTER", 100)
    split = set(listed(neighbours(vectors, 0.98)))
    assert split <= whole
    assert len(split) > 0.5 * len(whole)
    monkeypatch.setattr(semantic, "MAX_PAIRS", 100)
    with pytest.raises(ValueError, match="more than 100 pairs"):
        neighbours(vectors, 0.5)


def dull_walk(order: list[int], near: dict[tuple[int, int], float]) -> list[int]:
    """Keep a vector unless one that was kept is near; the first kept of those removes it."""
    kept: list[int] = []
    removed_by = [-1] * len(order)
    for node in order:
        who = next((other for other in kept if (min(node, other), max(node, other)) in near), None)
        if who is None:
            kept.append(node)
        else:
            removed_by[node] = who
    return removed_by


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 25), st.sampled_from([0.5, 0.8, 0.95]), st.integers(0, 2**32))
def test_the_walk_is_the_definition_and_leaves_no_chain(num: int, similarity: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = whole_numbers(blobs(num, dimensions=3, centers=3, noise=0.3, seed=seed))
    vectors = vectors[rng.integers(0, num, num)]  # many equal ones
    order = rng.permutation(num)
    same = first_of_same(vectors)
    rows = np.flatnonzero(same == np.arange(num))
    inner = neighbours(vectors[rows], similarity)
    who, nearness = survivors(order, same, Neighbours(rows[inner.i], rows[inner.j], inner.similarity))
    near = {(i, j): s for i, j, s in dull_pairs(vectors, similarity)}
    near |= {(i, j): 1.0 for i in range(num) for j in range(i + 1, num) if same[i] == same[j]}
    assert who.tolist() == dull_walk(order.tolist(), near)
    stay = np.flatnonzero(who < 0).tolist()
    assert not any((i, j) in near for i in stay for j in stay)
    for node in np.flatnonzero(who >= 0).tolist():
        pair = min(node, int(who[node])), max(node, int(who[node]))
        assert who[who[node]] == -1
        assert nearness[node] == pytest.approx(near[pair], abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**32))
def test_who_stays_does_not_depend_on_the_order_of_rows(num: int, seed: int) -> None:
    """`order` follows the preference, so it moves with the rows."""
    rng = np.random.default_rng(seed)
    vectors = whole_numbers(blobs(num, dimensions=4, seed=seed))
    preference = rng.permutation(num)

    def stay(rows: np.ndarray) -> set[int]:
        moved = vectors[rows]
        same = first_of_same(moved)
        firsts = np.flatnonzero(same == np.arange(num))
        inner = neighbours(moved[firsts], 0.9)
        pairs = Neighbours(firsts[inner.i], firsts[inner.j], inner.similarity)
        who, _ = survivors(np.argsort(preference[rows]), same, pairs)
        return set(rows[who < 0].tolist())

    assert stay(np.arange(num)) == stay(rng.permutation(num))
