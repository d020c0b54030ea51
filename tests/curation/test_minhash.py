"""MinHash and the set join against brute force: Jaccard of all with all, the recall that the curve says, and laws."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import minhash
from curation.components import Merged, connected_components
from curation.minhash import Bands, TextPairs, choose_bands, signatures
from curation.set_join import join_across, join_within
from curation.shingles import ShingleSets, normal_form, shingle_sets
from tests.curation.in_memory import near_texts


def as_sets(rows: list[set[int]]) -> ShingleSets:
    flat = [np.array(sorted(row), np.uint64) for row in rows]
    return ShingleSets(
        np.concatenate([np.zeros(0, np.uint64), *flat]), np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
    )


def dull_jaccard(x: set[int], y: set[int]) -> float:
    return len(x & y) / len(x | y) if x | y else 0.0


def spread(row: set[int]) -> set[int]:
    """The same set of well mixed 64-bit elements."""
    return {int.from_bytes(hashlib.blake2b(str(e).encode(), digest_size=8).digest()) for e in row}


def near(texts: list[str | None], **settings: object) -> TextPairs:
    return near_texts(pa.array(texts, pa.string()), **settings)  # type: ignore[arg-type]


def planted(num: int, share: float, seed: int) -> list[tuple[set[int], set[int]]]:
    """Pairs of 12 to 40 random elements of exactly this Jaccard similarity."""
    rng = np.random.default_rng(seed)
    pairs = []
    for k in range(num):
        union = 20 * int(rng.integers(1, 3))
        both = round(share * union)
        elements = rng.integers(0, 2**63, union).tolist()
        cut = both + (union - both) // 2
        pairs.append((set(elements[:cut]), set(elements[:both] + elements[cut:])))
        assert dull_jaccard(*pairs[k]) == pytest.approx(share)
    return pairs


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_the_curve(share: float) -> None:
    """Of planted pairs as many meet as the curve says (four standard deviations)."""
    bands = choose_bands(0.8, 0.99)
    assert bands == Bands(16, 6)
    num = 3000
    sets = as_sets([row for pair in planted(num, share, 7) for row in pair])
    keys = minhash.band_keys(sets, bands)
    meet = (keys[:, 0::2] == keys[:, 1::2]).any(axis=0).mean()
    expected = bands.probability(share)
    assert abs(meet - expected) <= 4 * np.sqrt(expected * (1 - expected) / num) + 1e-3


def test_a_signature_estimates_the_similarity() -> None:
    sets = as_sets([row for pair in planted(500, 0.6, 3) for row in pair])
    signature = signatures(sets, 128)
    agree = (signature[0::2] == signature[1::2]).mean(axis=1)
    assert agree.mean() == pytest.approx(0.6, abs=0.01)
    assert agree.std() == pytest.approx(np.sqrt(0.6 * 0.4 / 128), rel=0.15)


def test_signatures_are_those_of_every_machine() -> None:
    sets = shingle_sets(normal_form(pa.array(["A red car", "\u7ea2\u8272\u6c7d\u8f66"])))
    assert signatures(sets, 3).tolist() == SIGNATURES


SIGNATURES = [[2925388697, 1952363932, 2396861945], [1701975095, 1371092876, 285186775]]


def test_recall_on_texts_is_what_was_asked_for() -> None:
    rng = np.random.default_rng(5)
    words = [f"w{k}" for k in range(5000)]
    texts: list[str | None] = []
    for _ in range(1500):
        text = [words[k] for k in rng.integers(0, len(words), 20)]
        texts.append(" ".join(text))
        text[int(rng.integers(0, 20))] = "changed"
        texts.append(" ".join(text))
    rows = [set(zip(text.split(), text.split()[1:], strict=False)) for text in texts if text]
    true = {(k, k + 1) for k in range(0, len(rows), 2) if dull_jaccard(rows[k], rows[k + 1]) >= 0.8}
    found = near(texts, similarity=0.8, recall=0.99, all_pairs=True)
    pairs = set(zip(found.i.tolist(), found.j.tolist(), strict=True))
    assert len(true) > 1000
    assert len(true & pairs) >= 0.985 * len(true)
    for i, j, share in zip(*(column.tolist() for column in found), strict=True):
        assert share == dull_jaccard(rows[i], rows[j]) >= 0.8


WORDS = st.lists(st.sampled_from("abcde"), max_size=5).map(" ".join)
TEXTS = st.lists(st.none() | WORDS, max_size=14)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.randoms(use_true_random=False), st.sampled_from([0.4, 0.6, 0.8, 1.0]))
def test_order_and_repeats_change_no_group(texts: list[str | None], random: object, similarity: float) -> None:
    def groups(rows: list[str | None]) -> set[frozenset[str]]:
        pairs = near(rows, similarity=similarity, recall=0.9)
        labels = connected_components(len(rows), pairs.i, pairs.j)
        return {frozenset(str(rows[k]) for k in np.flatnonzero(labels == label)) for label in np.unique(labels)}

    shuffled = list(texts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert groups(shuffled) == groups(texts)
    assert {g for g in groups([*texts, *texts]) if g != {"None"}} == {g for g in groups(texts) if g != {"None"}}


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from([0.5, 0.8]))
def test_more_texts_never_part_a_group(texts: list[str | None], more: list[str | None], similarity: float) -> None:
    def joined(rows: list[str | None]) -> np.ndarray:
        pairs = near(rows, similarity=similarity, recall=0.9)
        labels = connected_components(len(rows), pairs.i, pairs.j)[: len(texts)]
        return labels[:, None] == labels[None]

    assert np.all(joined([*texts, *more])[joined(texts)])


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from([0.4, 0.8]))
def test_what_is_left_out_is_joined_anyway(texts: list[str | None], similarity: float) -> None:
    few, every = near(texts, similarity=similarity), near(texts, similarity=similarity, all_pairs=True)
    pairs = set(zip(*(column.tolist() for column in every), strict=True))
    assert set(zip(*(column.tolist() for column in few), strict=True)) <= pairs
    assert all(i < j for i, j, _ in pairs)
    labels = [connected_components(len(texts), found.i, found.j) for found in (few, every)]
    assert np.array_equal(*labels)


def test_a_template_with_thousands_of_fillings() -> None:
    """More than MAX_RUN texts meet in a band: the join takes over and loses nothing that meets."""
    front = " ".join(f"word{k}" for k in range(20))
    texts: list[str | None] = [f"{front} number {k} here" for k in range(2500)]
    texts += [f"{front} number {k} there" for k in range(0, 2500, 50)]
    found = near(texts, similarity=0.9, recall=0.99, all_pairs=True)
    rows = [set(zip(text.split(), text.split()[1:], strict=False)) for text in texts if text]
    pairs = list(zip(found.i.tolist(), found.j.tolist(), strict=True))
    assert {(50 * k, 2500 + k) for k in range(50)} <= set(pairs)
    for i, j in pairs[:: max(1, len(pairs) // 500)]:
        assert dull_jaccard(rows[i], rows[j]) >= 0.9


SMALL_SETS = st.lists(st.sets(st.integers(0, 9), max_size=7).map(frozenset), max_size=12)


@settings(max_examples=300, deadline=None)
@given(SMALL_SETS, SMALL_SETS, st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.75, 0.8, 1.0]))
def test_joins_find_every_pair(a: list[set[int]], b: list[set[int]], similarity: float) -> None:
    rows_a, rows_b = [spread(x) for x in a], [spread(x) for x in b]
    i, j, share = join_across(as_sets(rows_a), as_sets(rows_b), similarity)
    expected = [
        (x, y, dull_jaccard(rows_a[x], rows_b[y]))
        for x in range(len(a))
        for y in range(len(b))
        if dull_jaccard(rows_a[x], rows_b[y]) >= similarity
    ]
    assert list(zip(i.tolist(), j.tolist(), share.tolist(), strict=True)) == expected
    if any(rows_a):
        filled = np.flatnonzero([bool(x) for x in rows_a])
        i, j, share = join_within(as_sets(rows_a), filled, similarity, Merged.of(len(a)), all_pairs=True)
        expected = [
            (x, y, dull_jaccard(rows_a[x], rows_a[y]))
            for x, y in combinations(range(len(a)), 2)
            if dull_jaccard(rows_a[x], rows_a[y]) >= similarity
        ]
        assert sorted(set(zip(i.tolist(), j.tolist(), share.tolist(), strict=True))) == expected


def test_bands_for_what_is_wanted() -> None:
    for similarity in (0.5, 0.7, 0.8, 0.9, 1.0):
        for recall in (0.5, 0.9, 0.99):
            bands = choose_bands(similarity, recall)
            assert bands.probability(similarity) >= recall - 1e-12
            assert bands.num_bands * bands.rows <= 128
            if bands.rows < 128:  # one row more would not fit, or fewer bands would not reach the recall
                more = Bands(128 // (bands.rows + 1), bands.rows + 1)
                assert more.probability(similarity) < recall
            if bands.num_bands > 1:
                assert Bands(bands.num_bands - 1, bands.rows).probability(similarity) < recall
    with pytest.raises(ValueError, match=r"128 hashes cannot find .* similarity 0.01"):
        choose_bands(0.01, 0.999)
    for wrong in ((0.0, 0.9), (1.1, 0.9), (0.8, 0.0), (0.8, 1.0)):
        with pytest.raises(ValueError, match="must be"):
            choose_bands(*wrong)


def test_nothing() -> None:
    assert [len(column) for column in near([])] == [0, 0, 0]
    assert [len(column) for column in near([None, "", "!!"])] == [0, 0, 0]
    same = near(["A b", "a B!", None, "a  b"])
    assert [column.tolist() for column in same] == [[0, 0], [1, 3], [1.0, 1.0]]
