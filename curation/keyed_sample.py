"""Keyed samples: a fixed number of rows of a pool, the same however the pool is cut, ordered and read.

The sample holds the rows whose keyed hashes are smallest ("bottom k"): uniform, without replacement, made in one pass
with bounded memory, and in an order of its own, so that its first rows are a sample again. Source: Cohen and Kaplan
2007, bottom-k sketches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def keyed_hashes(names: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    """uint64 (N): BLAKE2b of each name, keyed with the seed; `purpose` (16 bytes at most) makes uses independent."""
    key, person = str(seed).encode(), purpose.encode()
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, key=key, person=person).digest(), "big")
            for name in names
        ],
        dtype=np.uint64,
    )


class KeyedSample:
    """At most `size` groups of rows, each by one row: those with the smallest hash of the group's name.

    Groups are what must not be taken twice (a picture with several captions); of a group's rows the one with the
    smallest hash of its own name is taken.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self._group, self._row = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        self._columns: dict[str, np.ndarray] = {}

    def add(self, groups: Sequence[str], rows: Sequence[str], columns: dict[str, np.ndarray]) -> None:
        """Offer rows: the name of each one's group, its own name, and the arrays (N, ...) to be kept of it."""
        group = keyed_hashes(groups, self.seed, "tamis.group")
        wanted = np.ones(len(group), bool) if len(self._group) < self.size else group <= self._group[-1]
        if not wanted.any():
            return
        row = keyed_hashes([rows[i] for i in np.flatnonzero(wanted).tolist()], self.seed, "tamis.row")
        group, offered = group[wanted], {name: values[wanted] for name, values in columns.items()}
        if self._columns:
            group, row = np.concatenate([self._group, group]), np.concatenate([self._row, row])
            offered = {name: np.concatenate([self._columns[name], values]) for name, values in offered.items()}
        order = np.lexsort((row, group))
        first = np.ones(len(order), bool)
        first[1:] = group[order][1:] != group[order][:-1]
        kept = order[first][: self.size]
        self._group, self._row = group[kept], row[kept]
        self._columns = {name: values[kept] for name, values in offered.items()}

    def __len__(self) -> int:
        return len(self._group)

    def columns(self) -> dict[str, np.ndarray]:
        """The arrays of the sampled rows, in the order of their groups' hashes; empty where nothing was offered."""
        return self._columns
