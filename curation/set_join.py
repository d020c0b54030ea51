"""Pairs of sets by exact Jaccard similarity: comparing runs of candidates, and finding all candidates by rare elements.

The join (AllPairs and PPJoin, Bayardo 2007, Xiao 2008): order the elements of every set from the rarest to the most
frequent. Of two sets of Jaccard similarity t or more, the one of n elements shares at least ceil(t n) with the other,
so they have one in common among the first n - ceil(t n) + 1 of each. Only sets that share such an element are compared:
nothing is missed, and what occurs everywhere is never looked up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curation.compiled import compiled
from curation.components import Merged, root
from curation.shingles import ShingleSets, jaccard, shared_share

_CHUNK_PAIRS = 1 << 22


class Asked(NamedTuple):
    """Which pairs are asked for: with a new text, and, where sides are given, of two sides."""

    is_new: np.ndarray
    """bool (N)."""
    side: np.ndarray
    """int64 (N)."""
    across: bool = False
    """Whether only pairs of two sides are asked for."""

    @classmethod
    def all(cls, num: int) -> Asked:
        return cls(np.ones(num, bool), np.zeros(num, np.int64))


Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""i < j (int64) and their Jaccard similarity (float64)."""


@compiled
def _merge_runs(
    hashes: np.ndarray,
    offsets: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    sizes: np.ndarray,
    similarity: float,
    parent: np.ndarray,
    all_pairs: bool,
    is_new: np.ndarray,
    side: np.ndarray,
    across: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left = np.empty(1024, np.int64)
    right = np.empty(1024, np.int64)
    shares = np.empty(1024, np.float64)
    count = 0
    for run in range(starts.size):
        rows = np.sort(order[starts[run] : starts[run] + sizes[run]])
        for x in range(rows.size):
            i = rows[x]
            size_i = offsets[i + 1] - offsets[i]
            for y in range(x + 1, rows.size):
                j = rows[y]
                if not (is_new[i] or is_new[j]) or (across and side[i] == side[j]):
                    continue
                if not all_pairs and root(parent, i) == root(parent, j):
                    continue
                size_j = offsets[j + 1] - offsets[j]
                if min(size_i, size_j) < similarity * max(size_i, size_j) - 1e-9:
                    continue
                share = jaccard(hashes, offsets, i, j)
                if share < similarity:
                    continue
                if count == left.size:
                    left, right = _doubled(left), _doubled(right)
                    more = np.empty(2 * shares.size, np.float64)
                    more[: shares.size] = shares
                    shares = more
                left[count], right[count], shares[count] = i, j, share
                count += 1
                a, b = root(parent, i), root(parent, j)
                parent[max(a, b)] = min(a, b)
    return left[:count].copy(), right[:count].copy(), shares[:count].copy()


@compiled
def _doubled(values: np.ndarray) -> np.ndarray:
    more = np.empty(2 * values.size, np.int64)
    more[: values.size] = values
    return more


def runs(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of equal values begins, and how long it is."""
    if len(ordered) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return starts, np.diff(np.append(starts, len(ordered)))


def merge_runs(
    sets: ShingleSets,
    order: np.ndarray,
    starts: np.ndarray,
    sizes: np.ndarray,
    similarity: float,
    merged: Merged,
    all_pairs: bool = False,
    asked: Asked | None = None,
) -> Found:
    """Compare all with all within each run order[start : start + size]; what is joined already is skipped.

    Joins in `merged` what it finds. With `all_pairs` nothing is skipped.
    """
    hashes, offsets = sets
    asked = asked or Asked.all(len(offsets) - 1)
    order, starts, sizes = (each.astype(np.int64) for each in (order, starts, sizes))
    i, j, share = _merge_runs(hashes, offsets, order, starts, sizes, similarity, merged.parent, all_pairs, *asked)
    return i, j, share


def join_within(
    sets: ShingleSets,
    rows: np.ndarray,
    similarity: float,
    merged: Merged,
    all_pairs: bool = False,
    asked: Asked | None = None,
) -> Found:
    """All pairs among `rows` (rising) of the similarity or more, but for those that are joined already."""
    sizes = np.diff(sets.offsets)[rows]
    places = _places(sets.offsets[rows], sizes)
    _, element, counts = np.unique(sets.hashes[places], return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    owner = np.repeat(np.arange(len(rows)), sizes)
    prefix_rank, prefix_owner = _prefixes(rank[element], owner, sizes, similarity)
    by_element = np.lexsort((prefix_owner, prefix_rank))
    starts, lengths = runs(prefix_rank[by_element])
    several = lengths > 1
    order = rows[prefix_owner[by_element]]
    return merge_runs(sets, order, starts[several], lengths[several], similarity, merged, all_pairs, asked)


def join_across(a: ShingleSets, b: ShingleSets, similarity: float) -> Found:
    """All (position in a, position in b, Jaccard similarity) of the similarity or more; exact; sorted."""
    known, counts = np.unique(b.hashes, return_counts=True)
    rank = np.empty(len(known), np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(1, len(known) + 1)

    def prefixes(sets: ShingleSets) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.diff(sets.offsets)
        place = np.minimum(np.searchsorted(known, sets.hashes), max(0, len(known) - 1))
        # what b does not have is rarest of all: it stands first and finds nothing
        ranks = np.where(known[place] == sets.hashes, rank[place], 0) if len(known) else np.zeros(len(sets.hashes), int)
        ranks, owners = _prefixes(ranks, np.repeat(np.arange(len(sizes)), sizes), sizes, similarity)
        return ranks[ranks > 0], owners[ranks > 0]

    rank_a, owner_a = prefixes(a)
    rank_b, owner_b = prefixes(b)
    by_rank = np.argsort(rank_b, kind="stable")
    rank_b, owner_b = rank_b[by_rank], owner_b[by_rank]
    begin = np.searchsorted(rank_b, rank_a)
    lengths = np.searchsorted(rank_b, rank_a, side="right") - begin
    total = np.concatenate([[0], np.cumsum(lengths)])
    found: list[Found] = []
    position = 0
    while position < len(rank_a):
        stop = max(position + 1, int(np.searchsorted(total, total[position] + _CHUNK_PAIRS, side="right")) - 1)
        part = slice(position, stop)
        pairs = np.unique(
            np.stack([np.repeat(owner_a[part], lengths[part]), owner_b[_places(begin[part], lengths[part])]]), axis=1
        )
        shares = np.asarray(_shares(*a, *b, pairs[0], pairs[1]))
        near = shares >= similarity
        found.append((pairs[0][near], pairs[1][near], shares[near]))
        position = stop
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    i, j, share = (np.concatenate(parts) for parts in zip(*found, strict=True))
    _, once = np.unique(np.stack([i, j]), axis=1, return_index=True)
    return i[once], j[once], share[once]


def _prefixes(
    ranks: np.ndarray, owners: np.ndarray, sizes: np.ndarray, similarity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of each owner's elements the first n - ceil(similarity n) + 1 by rank: their ranks and owners."""
    order = np.lexsort((ranks, owners))
    ranks, owners = ranks[order], owners[order]
    place = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    prefix = sizes - np.ceil(similarity * sizes - 1e-9).astype(np.int64) + 1
    early = place < prefix[owners]
    return ranks[early], owners[early]


def _places(begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """begin, begin + 1, ... of each range, one range after the other."""
    ends = np.cumsum(lengths)
    places: np.ndarray = np.arange(ends[-1] if len(ends) else 0) + np.repeat(begins - (ends - lengths), lengths)
    return places


@compiled
def _shares(
    hashes_a: np.ndarray,
    offsets_a: np.ndarray,
    hashes_b: np.ndarray,
    offsets_b: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
) -> np.ndarray:
    out: np.ndarray = np.empty(i.size, np.float64)
    for k in range(i.size):
        out[k] = shared_share(
            hashes_a[offsets_a[i[k]] : offsets_a[i[k] + 1]], hashes_b[offsets_b[j[k]] : offsets_b[j[k] + 1]]
        )
    return out
