"""Connected components against a dull union-find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.components import connected_components


def dull_labels(num_nodes: int, edges: list[tuple[int, int]]) -> list[int]:
    parent = list(range(num_nodes))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for a, b in edges:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(node) for node in range(num_nodes)]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    num_nodes = draw(st.integers(1, 40))
    node = st.integers(0, num_nodes - 1)
    return num_nodes, draw(st.lists(st.tuples(node, node), max_size=60))


@given(graphs())
def test_labels_are_those_of_union_find_in_any_order(graph: tuple[int, list[tuple[int, int]]]) -> None:
    num_nodes, edges = graph
    wanted = dull_labels(num_nodes, edges)
    for listed in (edges, edges[::-1], [(b, a) for a, b in edges], edges * 2):
        i, j = np.array(listed, np.int64).reshape(-1, 2).T
        assert connected_components(num_nodes, i, j).tolist() == wanted


@given(graphs(), st.integers(0, 39), st.integers(0, 39))
def test_another_edge_never_parts_a_group(graph: tuple[int, list[tuple[int, int]]], a: int, b: int) -> None:
    num_nodes, edges = graph
    before = dull_labels(num_nodes, edges)
    i, j = np.array([*edges, (a % num_nodes, b % num_nodes)], np.int64).T
    after = connected_components(num_nodes, i, j)
    assert all(after[x] == after[before[x]] for x in range(num_nodes))


def test_no_nodes_no_edges_and_wrong_edges() -> None:
    none = np.zeros(0, np.int64)
    assert connected_components(0, none, none).tolist() == []
    assert connected_components(2, none, none).tolist() == [0, 1]
    for i, j in (([0], [2]), ([-1], [0]), ([0, 1], [1])):
        with pytest.raises(ValueError):
            connected_components(2, np.array(i), np.array(j))
