"""Connected components: the groups that pairs of duplicates form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curation.compiled import compiled


class Merged(NamedTuple):
    """A forest over nodes, changed in place: which of them are known to be joined."""

    parent: np.ndarray
    """int64 (N)."""

    @classmethod
    def of(cls, num: int) -> Merged:
        """Nothing is joined."""
        return cls(np.arange(num, dtype=np.int64))

    def apart(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """bool (pairs): whether the two are not known to be joined."""
        return np.asarray(_apart(self.parent, i, j))

    def join(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Join pairs, one after the other; bool (pairs): which of them were not joined yet."""
        return np.asarray(_join(self.parent, i, j))


@compiled
def root(parent: np.ndarray, node: int) -> int:
    """What stands for the group of a node."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def _apart(parent: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    found = np.empty(i.size, np.bool_)
    for k in range(i.size):
        found[k] = root(parent, i[k]) != root(parent, j[k])
    return found


@compiled
def _join(parent: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    found = np.empty(i.size, np.bool_)
    for k in range(i.size):
        a, b = root(parent, i[k]), root(parent, j[k])
        found[k] = a != b
        parent[max(a, b)] = min(a, b)
    return found


def connected_components(num_nodes: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """int64 (num_nodes): for each node the smallest node of its group; a node without edges is its own group.

    The labels depend on the set of edges alone, not on their order or direction. Raises ValueError for an edge to a
    node outside 0 .. num_nodes - 1. Memory: about 20 bytes a node and 24 an edge.
    """
    if len(i) != len(j):
        raise ValueError(f"{len(i)} begins and {len(j)} ends of edges")
    if len(i) and (min(np.min(i), np.min(j)) < 0 or max(np.max(i), np.max(j)) >= num_nodes):
        raise ValueError(f"an edge leads to a node outside 0 .. {num_nodes - 1}")
    if num_nodes == 0:
        return np.zeros(0, np.int64)
    from scipy.sparse import coo_array  # at the first call: it takes 0.2 s, which many commands need not spend
    from scipy.sparse.csgraph import connected_components as scipy_components

    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(num_nodes, num_nodes))
    _, component = scipy_components(graph, directed=False)
    # Nodes in rising order: the first of a component is its smallest.
    _, smallest, position = np.unique(component, return_index=True, return_inverse=True)
    labels: np.ndarray = smallest[position].astype(np.int64)
    return labels
