"""Balancing's arithmetic: the published formula, MetaCLIP's draws, thresholds of languages, quotas."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.balance import (
    EntryCounts,
    KeepProbability,
    tail_share,
    temperature_quotas,
    threshold_at,
    thresholds,
)

IDS = st.lists(st.integers(0, 9), max_size=4, unique=True)
TEXTS = st.lists(st.none() | IDS, max_size=30)
COUNTS = st.lists(st.integers(1, 300), min_size=1, max_size=30)


def lists(texts: list[list[int] | None]) -> pa.ListArray:
    return pa.array(texts, pa.list_(pa.int32()))


def counted(texts: list[list[int] | None], language: str | None = None) -> EntryCounts:
    counts = EntryCounts()
    counts.add(lists(texts), language)
    return counts


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS)
def test_counts_of_parts_add_up(first: list[list[int] | None], second: list[list[int] | None]) -> None:
    whole, grown = counted([*first, *second]), counted(first)
    grown.add(pa.chunked_array([lists(second[:2]), lists(second[2:])]))
    assert np.array_equal(np.trim_zeros(grown.texts, "b"), np.trim_zeros(whole.texts, "b"))
    dull = [sum(k in (text or []) for text in [*first, *second]) for k in range(whole.texts.size)]
    assert whole.texts.tolist() == dull


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 12))
def test_the_keep_probability_is_the_published_formula(texts: list[list[int] | None], t: int) -> None:
    counts = counted(texts)
    probability = KeepProbability(counts, thresholds(counts, t))
    asked: list[list[int] | None] = [*texts, [40], [0, 40], []]
    found = probability(pa.chunked_array([lists(asked[:3]), lists(asked)[3:]])).to_pylist()
    for text, each in zip(asked, found, strict=True):
        if text is None:
            assert each is None
            continue
        count = {k: int(counts.texts[k]) if k < counts.texts.size else 0 for k in text}
        assert each == pytest.approx(1 - math.prod(1 - t / max(t, count[k]) for k in text), abs=1e-12)


def test_tiny_probabilities_are_not_lost() -> None:
    counts = EntryCounts()
    counts.texts, counts.languages, counts.language_of = np.array([10**15, 10**16]), [None], np.zeros(2, np.int32)
    (found,) = KeepProbability(counts, {None: 1})(lists([[0, 1]])).to_pylist()
    assert found == pytest.approx(1.1e-15, rel=1e-9)


def test_it_keeps_as_often_as_metaclips_draws() -> None:
    """Algorithm 1 as published draws for each match of a text and keeps it if one succeeds; 20,000 such samples keep
    each text as often as its keep probability says, within five sigma."""
    rng = np.random.default_rng(0)
    texts = [sorted({int(k) for k in rng.zipf(1.5, 3) if k < 40}) for _ in range(200)]
    counts, t, rounds = counted([list(text) for text in texts]), 8, 20_000
    expected = KeepProbability(counts, thresholds(counts, t))(lists([list(text) for text in texts])).to_numpy()
    single = t / np.maximum(counts.texts, t)
    for text, p in zip(texts, expected, strict=True):
        draws = rng.random((rounds, len(text))) < single[text]
        kept = draws.any(axis=1).mean() if text else 0.0
        assert abs(kept - p) <= 5 * math.sqrt(p * (1 - p) / rounds) + 1e-12


@settings(max_examples=100, deadline=None)
@given(COUNTS, st.integers(1, 400))
def test_the_round_trip_gives_the_largest_count_below_t(counts: list[int], t: int) -> None:
    known = np.sort(np.array(counts))
    below = [count for count in counts if count < t]
    assert threshold_at(known, tail_share(known, t)) == (max(below) if below else min(counts))


def test_the_round_trip_of_the_literature() -> None:
    known = np.array([1, 2, 3, 5, 8, 13])
    assert [threshold_at(known, tail_share(known, t)) for t in (10, 8, 5)] == [8, 5, 3]


@settings(max_examples=100, deadline=None)
@given(COUNTS, COUNTS, st.integers(1, 300), st.integers(1, 300))
def test_thresholds_grow_with_t_and_never_vanish(en: list[int], de: list[int], t: int, more: int) -> None:
    counts = EntryCounts()
    for language, sizes, first in (("en", en, 0), ("de", de, len(en))):
        counts.add(lists([[first + k] for k, size in enumerate(sizes) for _ in range(size)]), language)
    small, large = thresholds(counts, t, "en"), thresholds(counts, t + more, "en")
    assert small["en"] == t
    assert min(de) <= small["de"] <= large["de"] <= max(de)


def test_languages_that_cannot_be_compared_say_so() -> None:
    with pytest.raises(ValueError, match=r"no text matches an entry of 'en'.*languages with matches: de"):
        thresholds(counted([[1]], "de"), 5, "en")
    counts = counted([[1], [2]], "de")
    with pytest.raises(ValueError, match="entry 2 is matched by texts of 'de' and of 'en'"):
        counts.add(lists([[2, 3]]), "en")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=12),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.floats(0, 0.5),
)
def test_temperature_quotas(counts: list[int], exponent: float, fraction: float, more: float) -> None:
    total = fraction * sum(counts)
    found = temperature_quotas(counts, exponent, total)
    assert all(1 <= quota <= count for quota, count in zip(found, counts, strict=True))
    assert total - 1e-6 <= sum(found) <= total + len(counts)
    larger = temperature_quotas(counts, exponent, total * (1 + more))
    assert all(a <= b for a, b in zip(found, larger, strict=True))
    # groups that are not exhausted are as count ** exponent
    free = [(quota, count**exponent) for quota, count in zip(found, counts, strict=True) if quota < count]
    for a, weight_a in free:
        for b, weight_b in free:
            assert (a - 1) / weight_a <= b / weight_b * (1 + 1e-9)


def test_temperature_at_both_ends() -> None:
    assert temperature_quotas([800, 150, 50], 1.0, 500) == [400, 75, 25]
    assert temperature_quotas([800, 150, 50], 0.0, 300) == [125, 125, 50]
    assert temperature_quotas([10, 20], 0.5, 30) == [10, 20]
