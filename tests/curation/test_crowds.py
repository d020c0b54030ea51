"""Crowds: groups are those of all pairs, more rows never part one, copies of one picture are compared about once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.components import connected_components
from curation.near_duplicates import Hashes, NearDuplicates
from curation.thumbnail_match import SURE, WITH_CAPTION, verdict
from tests.curation.in_memory import crowded, near_duplicates
from tests.curation.signal_rows import drawing
from tests.curation.test_near_duplicates import alike, copy, letter, plain_letter, thumbnails

EVERY = 10**6


@pytest.fixture(scope="module")
def versions() -> np.ndarray:
    """Thumbnails of pictures that drift: each is a copy of the one before it, but not of the one three before it."""
    found = []
    for picture in (drawing(0, 90, 110), letter("L"), letter("K"), plain_letter("b")):
        (small,) = thumbnails([picture])
        noise = np.random.default_rng(len(found)).choice([-1, 1], small.shape)
        found += [np.clip(small + step * 5 * noise, 0, 255).astype(np.uint8) for step in range(8)]
    return np.stack(found)


def hashes_of(values: np.ndarray) -> Hashes:
    """Hashes of looks that have these hashes of their own, mirrored ones that are near some of them, and no others."""
    far = ~values ^ np.uint64(0x0F0F)
    return Hashes(
        values, values, np.zeros(len(values), bool), values[::-1] ^ np.uint64(0xF0), np.stack([far] * 5, axis=1)
    )


def media_groups(found: NearDuplicates, crowd: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """The groups of media, one for each look, by the rule.

    Joined are sure pairs, others that share a caption, and those of a caption in one group of a crowd.
    """
    sure, shared = found.verdict == SURE, captions[found.i] == captions[found.j]
    near_crowd = crowd[found.i] | crowd[found.j]
    likely = connected_components(len(crowd), found.i[near_crowd], found.j[near_crowd])
    ends = [found.i[sure | shared], found.j[sure | shared]]
    for group in np.unique(likely):
        for caption in np.unique(captions):
            inside = np.flatnonzero((likely == group) & (captions == caption))
            ends = [np.append(ends[0], inside[:-1]), np.append(ends[1], inside[1:])]
    return connected_components(len(crowd), *ends)


def together(groups: np.ndarray) -> np.ndarray:
    return groups[:, None] == groups


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_more_rows_never_part_a_group(versions: np.ndarray, data: st.DataObject) -> None:
    """Whatever is a crowd: of many rows all groups of fewer, and of all pairs, are there; sure pairs make no others."""
    num = data.draw(st.integers(2, 20))
    draw = lambda of: np.array(data.draw(st.lists(of, min_size=num, max_size=num)))  # noqa: E731
    small = versions[draw(st.integers(0, len(versions) - 1))]
    values = draw(st.sampled_from([0, 0, 0, 1, 2**40 - 1])).astype(np.uint64)
    captions, kept = draw(st.integers(0, 2)), np.flatnonzero(draw(st.booleans()))
    max_equal = data.draw(st.integers(1, 6))
    hashes = hashes_of(values)

    def groups(rows: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
        part = Hashes(*(column[rows] for column in hashes))
        found = near_duplicates(part, lambda asked: small[rows[asked]], 8, limit)
        sure = found.verdict == SURE
        return (
            media_groups(found, crowded(part.own, limit), captions[rows]),
            connected_components(len(rows), found.i[sure], found.j[sure]),
        )

    every = np.arange(num)
    grown, sure = groups(every, max_equal)
    of_all_pairs, sure_of_all_pairs = groups(every, EVERY)
    assert np.array_equal(sure, sure_of_all_pairs)
    assert np.all(together(grown)[together(of_all_pairs)])
    few, _ = groups(kept, max_equal)
    assert np.all(together(grown[kept])[together(few)])
    order = np.array(data.draw(st.permutations(range(num))))
    assert np.array_equal(together(groups(order, max_equal)[0]), together(grown)[np.ix_(order, order)])


def test_what_drifts_apart_stays_joined(versions: np.ndarray) -> None:
    """The case that a leader for each crowd loses: two pictures are copies, and a third one of the first alone."""
    chain = versions[:8]
    direct = verdict("same", chain[[0] * 8], chain)
    assert (direct == SURE).sum() >= 2
    assert (direct != SURE).sum() >= 2
    for order in (np.arange(8), np.arange(8)[::-1], np.array([3, 7, 0, 5, 1, 6, 2, 4])):
        stack = chain[order]
        found = near_duplicates(alike(stack, 5), lambda rows, stack=stack: stack[rows], 8, 2)
        assert len(set(connected_components(8, found.i, found.j))) == 1


@pytest.mark.parametrize("captions", [False, True])
def test_copies_are_compared_about_once(captions: bool) -> None:
    """More versions of one picture than are compared all with all, and two other pictures that share their hash."""
    a, b, c = thumbnails([plain_letter("L") if captions else letter("L"), letter("K"), drawing(9)])
    rng = np.random.default_rng(0)
    noisy = np.clip(a + rng.integers(-2, 3, (400, *a.shape)), 0, 255).astype(np.uint8)
    stack = np.concatenate([noisy, b[None], c[None], b[None]])
    order = rng.permutation(len(stack))
    stack = stack[order]
    subject = np.array([0] * 400 + [1, 2, 1])[order]
    asked = []

    def read(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return stack[rows]

    found = near_duplicates(alike(stack, 7), read)
    groups = connected_components(len(stack), found.i, found.j)
    assert [len(set(groups[subject == k])) for k in range(3)] == [1, 1, 1]
    assert len(set(groups)) == 3
    assert len(found.i) == 400
    assert set(found.verdict[subject[found.i] == 0]) == {WITH_CAPTION if captions else SURE}
    assert sum(asked) < 8000  # all with all: 81,003 pairs


def test_a_crowd_takes_copies_only() -> None:
    """What joins a crowd are pairs that all with all would find, none more than needed."""
    originals = [drawing(0, 90, 110), drawing(1, 90, 110), *(letter(text) for text in "bdL")]
    small = thumbnails([copy(picture, kind, 0) for picture in originals for kind in ("exact", "jpeg60", "resize70")])
    every = near_duplicates(alike(small, 99), lambda rows: small[rows], 8, EVERY)
    found = near_duplicates(alike(small, 99), lambda rows: small[rows], 8, 4)
    pairs = [set(zip(each.i.tolist(), each.j.tolist(), strict=True)) for each in (found, every)]
    assert pairs[0] < pairs[1]
    labels = [connected_components(len(small), each.i, each.j) for each in (found, every)]
    assert np.array_equal(*labels)
    assert len(pairs[0]) < 2 * (len(small) - len(set(labels[0])))  # two forests
