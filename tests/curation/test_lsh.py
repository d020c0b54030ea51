"""Hamming pairs against the dull comparison of all with all."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.components import connected_components
from curation.hash_bands import MAX_RADIUS
from curation.lsh import cross_pairs, first_band, hamming_pairs


def planted(num: int, seed: int = 0) -> np.ndarray:
    """Random hashes of which a part are copies of others with 0 to 14 bits changed."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, num, dtype=np.uint64)
    for k in range(num // 2, num):
        for bit in rng.choice(64, int(rng.integers(0, 15)), replace=False):
            hashes[k] = hashes[k] ^ np.uint64(1 << int(bit)) if bit else hashes[k - num // 2]
    return hashes


def dull(hashes: np.ndarray, radius: int) -> set[tuple[int, int, int]]:
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None])
    i, j = np.nonzero(np.triu(distance <= radius, 1))
    return {(int(a), int(b), int(distance[a, b])) for a, b in zip(i, j, strict=True)}


@pytest.mark.parametrize("radius", [0, 1, 3, 4, 8, 10, MAX_RADIUS])
@pytest.mark.parametrize("num", [2, 60, 1500])
def test_all_pairs_of_distinct_hashes(num: int, radius: int) -> None:
    hashes = np.unique(planted(num, radius))
    np.random.default_rng(1).shuffle(hashes)
    pairs = hamming_pairs(hashes, radius)
    found = list(zip(pairs.i.tolist(), pairs.j.tolist(), pairs.distance.tolist(), strict=True))
    assert found == sorted(dull(hashes, radius))


_HASHES = st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 3, 7, 2**63, 2**64 - 1]), max_size=30)


@settings(max_examples=200, deadline=None)
@given(_HASHES, st.integers(0, 9))
def test_components_with_equal_hashes_are_those_of_all_pairs(values: list[int], radius: int) -> None:
    hashes = np.array(values, np.uint64)
    pairs = hamming_pairs(hashes, radius)
    everything = np.array(sorted(dull(hashes, radius)), np.int64).reshape(-1, 3)
    assert np.all(pairs.i < pairs.j)
    assert {*zip(pairs.i.tolist(), pairs.j.tolist(), pairs.distance.tolist(), strict=True)} <= dull(hashes, radius)
    assert np.array_equal(
        connected_components(len(values), pairs.i, pairs.j),
        connected_components(len(values), everything[:, 0], everything[:, 1]),
    )


@settings(max_examples=200, deadline=None)
@given(_HASHES, _HASHES, st.integers(0, 9))
def test_cross_pairs(a: list[int], b: list[int], radius: int) -> None:
    pairs = cross_pairs(np.array(a, np.uint64), np.array(b, np.uint64), radius)
    first_a, first_b = {value: a.index(value) for value in a}, {value: b.index(value) for value in b}
    wanted = {
        (i, j, (x ^ y).bit_count())
        for x, i in first_a.items()
        for y, j in first_b.items()
        if (x ^ y).bit_count() <= radius
    }
    found = list(zip(pairs.i.tolist(), pairs.j.tolist(), pairs.distance.tolist(), strict=True))
    assert found == sorted(wanted)


def test_many_equal_hashes_cost_a_star_and_not_a_square() -> None:
    hashes = np.full(100_000, 5, np.uint64)
    hashes[50_000] = 4
    pairs = hamming_pairs(hashes, 3)
    assert len(pairs.i) == 99_999
    assert set(pairs.i.tolist()) == {0}
    assert pairs.distance.sum() == 1


def test_crowded_bands() -> None:
    """Hashes that share three quarters of their bits meet in most bands; none may be lost in full bins."""
    hashes = np.arange(6000, dtype=np.uint64)
    pairs = hamming_pairs(hashes, 1)
    wanted = sum(1 for value in range(6000) for bit in range(13) if value < value ^ (1 << bit) < 6000)
    assert len(pairs.i) == wanted


def test_radius_is_checked() -> None:
    with pytest.raises(ValueError, match="radius 17"):
        hamming_pairs(np.zeros(2, np.uint64), 17)


def test_the_first_band() -> None:
    differences = np.array([0, 1, 1 << 16, (1 << 16) | 1, 2**64 - 1], np.uint64)
    assert first_band(differences, 4).tolist() == [0, 1, 0, 2, 4]


@settings(max_examples=50, deadline=None)
@given(_HASHES, st.integers(0, 16), st.randoms(use_true_random=False))
def test_order_changes_no_component(values: list[int], radius: int, rng: Random) -> None:
    order = list(range(len(values)))
    rng.shuffle(order)
    groups = []
    for hashes in (np.array(values, np.uint64), np.array(values, np.uint64)[order]):
        pairs = hamming_pairs(hashes, radius)
        groups.append(connected_components(len(values), pairs.i, pairs.j))
    straight = groups[0][order]
    assert all((straight == straight[k]).tolist() == (groups[1] == groups[1][k]).tolist() for k in range(len(values)))
