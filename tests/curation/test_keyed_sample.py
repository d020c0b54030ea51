"""Keyed samples: the bottom k by hash, one row a group, however the rows come."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.keyed_sample import KeyedSample, keyed_hashes


def taken(size: int, seed: int, rows: list[tuple[str, str]], cuts: list[int]) -> list[str]:
    sample = KeyedSample(size, seed)
    ends = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    for a, b in itertools.pairwise(ends):
        some = rows[a:b]
        names = np.array([name for _, name in some], object)
        sample.add([group for group, _ in some], [name for _, name in some], {"name": names})
    return list(sample.columns().get("name", []))


def dull(size: int, seed: int, rows: list[tuple[str, str]]) -> list[str]:
    """Sort everything, then take."""
    best: dict[str, str] = {}
    for group, name in sorted(rows, key=lambda row: keyed_hashes([row[1]], seed, "tamis.row")[0]):
        best.setdefault(group, name)
    order = sorted(best, key=lambda group: keyed_hashes([group], seed, "tamis.group")[0])
    return [best[group] for group in order[:size]]


ROWS = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 99).map(str)), unique=True, max_size=40)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 12), st.integers(0, 3), st.lists(st.integers(0, 50), max_size=4), st.randoms())
def test_any_cut_and_order_gives_the_bottom_k(rows, size, seed, cuts, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert taken(size, seed, shuffled, cuts) == dull(size, seed, rows)


def test_every_group_is_as_likely() -> None:
    rows = [(str(k), str(k)) for k in range(20)]
    counts = Counter(name for seed in range(600) for name in taken(5, seed, rows, []))
    # 600 draws at 1/4 each: a standard deviation of 10.6
    assert all(abs(counts[str(k)] - 150) < 4 * 10.6 for k in range(20))


def test_a_smaller_sample_is_the_beginning_of_a_larger_one() -> None:
    rows = [(str(k), str(k)) for k in range(100)]
    assert taken(30, 1, rows, [17])[:10] == taken(10, 1, rows, [50])
    assert taken(10, 1, rows, []) != taken(10, 2, rows, [])
