"""Owners of near hashes: those that a dull comparison of all with all gives."""

from __future__ import annotations

import numpy as np
import pytest

from curation.owner_pairs import owner_pairs


def owned(seed: int, owners: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes that walk, as those of films do; some owners are near others."""
    rng = np.random.default_rng(seed)
    hashes = np.zeros((owners, each), np.uint64)
    for k in range(owners):
        hashes[k, 0] = rng.integers(0, 2**64, dtype=np.uint64) if k % 4 else hashes[rng.integers(k or 1), -1]
        for step in range(1, each):
            hashes[k, step] = hashes[k, step - 1] ^ np.bitwise_or.reduce(
                np.uint64(1) << rng.integers(0, 64, 3).astype(np.uint64)
            )
    return hashes.ravel(), np.repeat(np.arange(owners, dtype=np.int32), each)


def dull(a: np.ndarray, owner_a: np.ndarray, b: np.ndarray, owner_b: np.ndarray, radius: int) -> set[tuple[int, int]]:
    i, j = np.nonzero(np.bitwise_count(a[:, None] ^ b[None]) <= radius)
    pairs = zip(owner_a[i].tolist(), owner_b[j].tolist(), strict=True)
    return {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}


@pytest.mark.parametrize("radius", [0, 3, 8])
@pytest.mark.parametrize(("owners", "each"), [(2, 1), (40, 12), (300, 9)])
def test_owners_are_those_of_all_with_all(owners: int, each: int, radius: int) -> None:
    hashes, owner = owned(owners, owners, each)
    found = owner_pairs(hashes, owner, radius)
    assert found.tolist() == sorted(map(list, dull(hashes, owner, hashes, owner, radius)))
    first = owner % 3 == 0
    sides = hashes[first], owner[first], hashes[~first], owner[~first]
    expected = sorted(map(list, dull(*sides, radius)))
    assert owner_pairs(sides[0], sides[1], radius, sides[2], sides[3]).tolist() == expected
    assert owner_pairs(sides[2], sides[3], radius, sides[0], sides[1]).tolist() == expected


def test_more_pairs_than_there_is_room_for_at_first() -> None:
    """Five hundred owners of the same forty hashes: five million pairs of hashes, 124,750 of owners."""
    same = np.random.default_rng(0).integers(0, 2**64, 40, dtype=np.uint64)
    found = owner_pairs(np.tile(same, 500), np.repeat(np.arange(500, dtype=np.int32), 40), 8)
    assert len(found) == 500 * 499 // 2
    assert owner_pairs(np.zeros(0, np.uint64), np.zeros(0, np.int32), 8).shape == (0, 2)
