"""Balancing in the policy: the SQL against dull readings of its definition, and its laws."""

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from curation.policy import Policy
from pipelines.yaml_place import RecipeError
from tests.pipelines.policies import decisions, dull_keep_probability, row

Rows = list[dict[str, Any]]
ENTRIES = st.lists(st.lists(st.integers(0, 6), max_size=4, unique=True), min_size=1, max_size=40)


def kept(rows: Rows, *policy: dict[str, Any]) -> list[str]:
    return [uid for uid, decision in decisions(rows, list(policy)).items() if decision["kept"]]


@settings(max_examples=20, deadline=None)
@given(ENTRIES, st.integers(1, 12), st.integers(0, 2**32))
def test_balance_is_the_published_formula(entries: list[list[int]], t: int, seed: int) -> None:
    draws = np.random.default_rng(seed).random(len(entries))
    rows = [row(i, i, entry_ids=e, draw=float(d)) for i, (e, d) in enumerate(zip(entries, draws, strict=True))]
    found = decisions(rows, [{"balance": "b", "t": t}])
    counts: dict[int, int] = {}
    for each in entries:
        for entry in each:
            counts[entry] = counts.get(entry, 0) + 1
    for i, each in enumerate(entries):
        decision = found[f"t{i:03d}"]
        expected = dull_keep_probability(each, counts, t)
        assert decision["keep_probability"] == pytest.approx(expected, abs=1e-12)
        assert decision["kept"] == (draws[i] < expected)


@settings(max_examples=12, deadline=None)
@given(ENTRIES, st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_a_larger_t_keeps_a_superset(entries: list[list[int]], t: int, more: int, per_language: bool) -> None:
    rows = [
        row(i, i, entry_ids=[2 * k + i % 2 for k in e], entry_language=("en", "de")[i % 2], draw=(i * 0.377) % 1)
        for i, e in enumerate([[0], *entries])
    ]
    extra = {"per_language": "en"} if per_language else {}
    small = set(kept(rows, {"balance": "b", "t": t, **extra}))
    assert small <= set(kept(rows, {"balance": "b", "t": t + more, **extra}))


def test_balance_leaves_alone_what_is_out_of_its_scope() -> None:
    rows = [row(1, 1, language="de"), row(2, 2), row(3, 3, entry_ids=[1]), row(4, 4, entry_ids=None)]
    drop = decisions(rows, [{"balance": "b", "t": 1, "where": "language = 'en'"}])
    assert [uid for uid, d in drop.items() if d["kept"]] == ["t001", "t003"]
    assert drop["t001"]["keep_probability"] is None
    keep = decisions(rows, [{"balance": "b", "t": 1, "where": "language = 'en'", "no_match": "keep"}])
    assert all(d["kept"] for d in keep.values())


def test_counts_are_of_what_passed() -> None:
    rows = [row(i, i, entry_ids=[1], draw=0.9, width_px=10 if i < 9 else 64) for i in range(10)]
    found = decisions(rows, [{"rule": "wide", "keep": "width_px > 32"}, {"balance": "b", "t": 1}])
    assert found["t009"]["keep_probability"] == 1.0
    assert found["t009"]["kept"]


def test_balance_keeps_what_the_probabilities_add_up_to() -> None:
    """Over many seeds the number kept is binomial around the sum of the keep probabilities (5 sigma)."""
    rng = np.random.default_rng(0)
    number, expected, variance = 0, 0.0, 0.0
    for _ in range(10):
        rows = [
            row(i, i, entry_ids=sorted({int(e) for e in rng.zipf(1.6, 2) if e < 50}), draw=float(rng.random()))
            for i in range(300)
        ]
        found = decisions(rows, [{"balance": "b", "t": 10}])
        number += sum(d["kept"] for d in found.values())
        probabilities = [d["keep_probability"] for d in found.values()]
        expected += sum(probabilities)
        variance += sum(p * (1 - p) for p in probabilities)
    assert abs(number - expected) < 5 * math.sqrt(variance)


def test_each_language_has_the_tail_share_of_the_reference() -> None:
    """English: entries with 1, 1, 2 and 6 texts; t = 3 gives a tail of 4/10. German counts 2, 2, 6: 2/10, 4/10, 10/10,
    so its threshold is 2 and its head entry is kept with 2/6."""
    rows, sizes = [], {"en": [1, 1, 2, 6], "de": [2, 2, 6]}
    for language, counts in sizes.items():
        for k, size in enumerate(counts):
            entry = k + (10 if language == "de" else 0)
            rows += [row(len(rows) + i, 1, entry_ids=[entry], entry_language=language) for i in range(size)]
    found = decisions(rows, [{"balance": "b", "t": 3, "per_language": "en"}])
    probabilities = {each["text_uid"]: found[each["text_uid"]]["keep_probability"] for each in rows}
    assert probabilities["t009"] == pytest.approx(3 / 6)
    assert probabilities["t019"] == pytest.approx(2 / 6)
    assert {probabilities[f"t{i:03d}"] for i in (0, 3, 10, 13)} == {1.0}
    with pytest.raises(RecipeError, match="'b': no text matches an entry of 'fr'"):
        decisions(rows, [{"balance": "b", "t": 3, "per_language": "fr"}])


GROUPED = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(0, 10**6)), min_size=1, max_size=30)


def grouped(given_rows: list[tuple[str | None, int]]) -> Rows:
    return [row(i, i, language=key, draw=draw / (10**6 + 1)) for i, (key, draw) in enumerate(given_rows)]


@settings(max_examples=8, deadline=None)
@given(GROUPED, st.integers(1, 6), st.integers(0, 3), st.sampled_from(["drop", "keep"]))
def test_at_most_so_many_of_each_group(keys: list[tuple[str | None, int]], most: int, more: int, no_match: str) -> None:
    rows = grouped(keys)
    item = {"balance": "b", "by": "language", "most": most, "no_match": no_match}
    found = decisions(rows, [item])
    for key in {each["language"] for each in rows}:
        members = sorted((each["draw"], each["text_uid"]) for each in rows if each["language"] == key)
        stayed = [uid for _, uid in members if found[uid]["kept"]]
        if key is None:
            assert len(stayed) == (len(members) if no_match == "keep" else 0)
        elif len({draw for draw, _ in members}) == len(members):
            assert stayed == [uid for _, uid in members[:most]]
        else:
            assert len(stayed) <= most  # equal draws at the cut all go
    assert {uid for uid, d in found.items() if d["kept"]} <= set(kept(rows, {**item, "most": most + more}))
    lost = next((d for d in found.values() if not d["kept"]), None)
    if lost is not None:
        assert set(json.loads(lost["saw"][0])) == {"keep_probability", "draw"}


@pytest.mark.parametrize("by", ["round(clip_score)", "round(clip_score::double)"])
def test_zero_and_minus_zero_are_one_group(by: str) -> None:
    """They are equal, and rounded scores are full of both."""
    rows = [row(n, n, clip_score=score, draw=n / 4) for n, score in enumerate([0.1, -0.1, 0.2, -0.2])]
    assert kept(rows, {"balance": "b", "by": by, "most": 2}) == ["t000", "t001"]


@settings(max_examples=6, deadline=None)
@given(GROUPED, st.integers(1, 6), st.integers(0, 3))
def test_a_soft_limit_of_groups_is_the_formula_of_one_entry(
    keys: list[tuple[str | None, int]], t: int, more: int
) -> None:
    rows = grouped(keys)
    found = decisions(rows, [{"balance": "b", "by": "language", "t": t}])
    counts = Counter(each["language"] for each in rows)
    for each in rows:
        share = t / max(t, counts[each["language"]]) if each["language"] else 0.0
        assert found[each["text_uid"]]["keep_probability"] == pytest.approx(share)
        assert found[each["text_uid"]]["kept"] == (each["draw"] < share)
    small = {uid for uid, d in found.items() if d["kept"]}
    assert small <= set(kept(rows, {"balance": "b", "by": "language", "t": t + more}))


def test_temperature_sampling_of_languages() -> None:
    rng = np.random.default_rng(0)
    languages = ["en"] * 800 + ["de"] * 150 + ["fo"] * 50
    rows = [row(i, i, language=tag, draw=float(rng.random())) for i, tag in enumerate(languages)]
    by_uid = {each["text_uid"]: each["language"] for each in rows}

    def sizes(exponent: float, fraction: float) -> dict[str, int]:
        item = {"balance": "b", "by": "language", "exponent": exponent, "fraction": fraction}
        return dict(Counter(by_uid[uid] for uid in kept(rows, item)))

    assert sizes(1.0, 0.5) == {"en": 400, "de": 75, "fo": 25}
    assert sizes(0.0, 0.3) == {"en": 125, "de": 125, "fo": 50}
    half = sizes(0.5, 0.2)
    assert half["en"] / half["de"] == pytest.approx(math.sqrt(800 / 150), rel=0.05)


def test_a_second_balance_does_not_favour_what_the_first_one_thinned_out() -> None:
    """Entry 0 is in 900 texts and kept with 1/9; entries 1 to 100 are rare. Of the survivors a cap keeps half: of both
    kinds alike (5 sigma), although all survivors of the head have draws below 1/9."""
    rng = np.random.default_rng(1)
    rows = [row(i, i, entry_ids=[0] if i < 900 else [i - 899], draw=float(rng.random())) for i in range(1000)]
    first = {"balance": "head", "t": 100}
    survivors = kept(rows, first)
    chosen = kept(rows, first, {"balance": "cap", "by": "language", "most": len(survivors) // 2})
    assert len(chosen) == len(survivors) // 2
    assert set(chosen) <= set(survivors)
    rare = sum(int(uid[1:]) >= 900 for uid in survivors)
    assert abs(sum(int(uid[1:]) >= 900 for uid in chosen) - rare / 2) < 5 * math.sqrt(rare) / 2
    found = decisions(rows, [first, {"balance": "again", "by": "language", "t": 50}])
    number = len(survivors)
    assert found["t000"]["keep_probability"] == pytest.approx(1 / 9 * 50 / number)


@settings(max_examples=4, deadline=None)
@given(ENTRIES, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(entries: list[list[int]], chance: Any) -> None:
    rows = [row(i, i, entry_ids=e, draw=(i * 0.377) % 1, language="ab"[i % 2]) for i, e in enumerate(entries)]
    policy = [{"balance": "b", "t": 2}, {"balance": "c", "by": "language", "most": 3}]
    expected = decisions(rows, policy)
    chance.shuffle(rows)
    assert decisions(rows, policy) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of `t`, `most` and `exponent`; 'b' has none"),
        ({"t": 5, "most": 3, "by": "host"}, "'b' has t and most"),
        ({"most": 3}, "`most` needs `by`"),
        ({"exponent": 0.5, "by": "language"}, "`exponent` and `fraction` go together"),
        ({"t": 5, "fraction": 0.5}, "`exponent` and `fraction` go together"),
        ({"t": 5, "by": "host", "per_language": "en"}, "does not go with `by`"),
        ({"t": 0}, "greater than or equal to 1"),
    ],
)
def test_contradictions_are_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Policy).validate_python([{"balance": "b", **fields}])
