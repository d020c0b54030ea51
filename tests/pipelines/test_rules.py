"""Cuts, weights and thresholds by name: each against a dull reading of its definition, and what it records."""

import json
import math
import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from curation.policy import Policy
from pipelines import database
from tests.pipelines.policies import decisions, row

Row = dict[str, Any]


def kept(rows: list[Row], policy: list[dict[str, Any]], **how: Any) -> set[str]:
    return {uid for uid, decision in decisions(rows, policy, **how).items() if decision["kept"]}


def saw(decision: dict[str, Any], rule: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decision["saw"][decision["rejected_by"].index(rule)])
    return found


SCORES = st.lists(st.sampled_from([None, -1.5, 0.0, 0.25, 0.5, 1e300, float("inf")]), min_size=1, max_size=25)


@settings(max_examples=15, deadline=None)
@given(SCORES, st.sampled_from([0.01, 0.1, 0.28, 0.3, 0.5, 0.99, 1.0]), st.booleans(), st.integers(6, 30))
def test_top_of_the_pool_or_of_what_passed(
    scores: list[float | None], fraction: float, among_all: bool, batch_rows: int
) -> None:
    rows = [row(i, i, draw=score, width_px=10 if i % 3 == 0 else 64) for i, score in enumerate(scores)]
    rows.reverse()
    top = {"top": "best", "by": "draw", "fraction": fraction, "among": "all" if among_all else "passed"}
    found = kept(rows, [{"rule": "wide", "keep": "width_px > 32"}, top], batch_rows=batch_rows, threads=2)
    wide = {r["text_uid"] for r in rows if r["width_px"] > 32}
    scored = [r for r in rows if r["draw"] is not None and math.isfinite(r["draw"])]
    counted = [r for r in scored if among_all or r["text_uid"] in wide]
    ordered = sorted(counted, key=lambda r: (-r["draw"], r["text_uid"]))
    best = {r["text_uid"] for r in ordered[: math.ceil(Fraction(repr(fraction)) * len(ordered))]}
    assert found == wide & best


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=20), st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_top_with_ties_kept_is_the_filter_of_datacomp(scores: list[float], fraction: float) -> None:
    rows = [row(i, i, clip_score=score) for i, score in enumerate(scores)]
    found = kept(rows, [{"top": "best", "by": "clip_score", "fraction": fraction, "ties": "keep"}])
    threshold = sorted(scores, reverse=True)[min(int(len(scores) * fraction), len(scores) - 1)]
    assert found == {r["text_uid"] for r in rows if r["clip_score"] >= threshold}


def test_so_many_of_what_passed_as_make_up_a_part_of_the_pool() -> None:
    rows = [row(i, i, clip_score=i / 100, width_px=64 if i % 2 else 10) for i in range(20)]
    top = {"top": "best", "by": "clip_score", "fraction": 0.2, "of": "pool"}
    assert kept(rows, [{"rule": "wide", "keep": "width_px > 32"}, top]) == {"t013", "t015", "t017", "t019"}
    assert len(kept(rows, [{"rule": "wide", "keep": "width_px > 32"}, {**top, "fraction": 0.9}])) == 10


def test_a_fraction_is_not_multiplied_in_floating_point() -> None:
    rows = [row(i, i, clip_score=i / 1000) for i in range(100)]
    assert len(kept(rows, [{"top": "best", "by": "clip_score", "fraction": 0.28}])) == 28  # 0.28 * 100 > 28


def test_a_cut_is_found_among_values_of_any_size() -> None:
    values = [5e-324, -5e-324, 1.7e308, -1.7e308, 0.0, 1.0, 1.0 + 2**-52]
    rows = [row(i, i, draw=value) for i, value in enumerate(values)]
    for place in range(1, len(values) + 1):
        found = kept(rows, [{"top": "best", "by": "draw", "fraction": place / len(values)}])
        expected = sorted(range(len(values)), key=lambda i: -values[i])[: math.ceil(Fraction(repr(place / 7)) * 7)]
        assert found == {f"t{i:03d}" for i in expected}


def test_the_cut_is_recorded() -> None:
    found = decisions(
        [row(i, i, clip_score=i / 4) for i in range(4)], [{"top": "b", "by": "clip_score", "fraction": 0.5}]
    )
    assert saw(found["t001"], "b") == {"clip_score": 0.25, "cut": 0.5}
    found = decisions([row(1, 1, clip_score=None)], [{"top": "b", "by": "clip_score * 2", "fraction": 0.5}])
    assert saw(found["t001"], "b") == {"clip_score": None, "value": None, "cut": None}


def test_weights_multiply_and_a_row_without_one_is_rejected() -> None:
    rows = [row(1, 1), row(2, 2, clip_score=0.0), row(3, 3, clip_score=None), row(4, 4, clip_score=-1.0)]
    policy = [{"weight": "score", "value": "clip_score * 2"}, {"weight": "size", "value": "width_px / 32"}]
    found = decisions(rows, policy)
    assert found["t001"]["sampling_weight"] == 2.0
    assert [uid for uid, d in found.items() if d["kept"]] == ["t001"]
    assert saw(found["t004"], "score") == {"clip_score": -1.0, "value": -2.0}
    assert decisions(rows, [])["t001"]["sampling_weight"] is None


def test_thresholds_have_names_and_are_recorded() -> None:
    rule = {"rule": "good", "keep": "clip_score >= $least and language <> '$least'", "at": {"least": 0.6}}
    found = decisions([row(1, 1, language="$least"), row(2, 2, clip_score=0.75)], [rule])
    assert saw(found["t001"], "good") == {"clip_score": 0.5, "language": "$least", "$least": 0.6}
    assert found["t002"]["kept"]
    text = {"rule": "here", "keep": "language = $language", "at": {"language": "e'n"}}
    assert kept([row(1, 1), row(2, 2, language="e'n")], [text]) == {"t002"}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"keep": "clip_score > $least"}, "`at` has no 'least'"),
        ({"keep": "clip_score > 3", "at": {"least": 1}}, "does not use $least"),
        ({"keep": "language = '$least'", "at": {"least": 1}}, "does not use $least"),
        ({"keep": "true -- $least", "at": {"least": 1}}, "does not use $least"),
        ({"keep": "clip_score > $least", "at": {"least": math.nan}}, "`at` has nan for 'least'"),
    ],
)
def test_every_named_threshold_is_there_and_used(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Policy).validate_python([{"rule": "r", **rule}])
    assert said in str(caught.value)


NAN = float("nan")
EDGES: list[tuple[list[float | None], float, str, int]] = [
    # scores, fraction, ties, how many stay
    ([], 0.5, "break", 0),
    ([], 1.0, "keep", 0),
    ([0.25], 0.01, "break", 1),
    ([0.25], 1.0, "break", 1),
    ([0.25], 0.5, "keep", 1),
    ([None], 1.0, "break", 0),
    ([NAN, float("inf"), -float("inf")], 1.0, "keep", 0),
    ([NAN, 0.25, None, 0.5], 0.5, "break", 1),
    ([0.25] * 10, 0.3, "break", 3),
    ([0.25] * 10, 0.3, "keep", 10),
    ([0.0, -0.0] * 5, 0.3, "break", 3),
    ([0.5, 0.25, 0.25, 0.25, 0.0], 0.4, "break", 2),
    ([0.5, 0.25, 0.25, 0.25, 0.0], 0.4, "keep", 4),
    ([0.5, 0.25, 0.25, 0.25, 0.0], 1.0, "keep", 5),
]


@pytest.mark.parametrize(("scores", "fraction", "ties", "num"), EDGES)
def test_cuts_at_the_edges(scores: list[float | None], fraction: float, ties: str, num: int) -> None:
    rows = [row(i, i, draw=score) for i, score in enumerate(scores)]
    top = {"top": "best", "by": "draw", "fraction": fraction, "ties": ties}
    for order in (rows, rows[::-1]):
        found = kept(order, [top], batch_rows=2, threads=2)
        assert len(found) == num
        finite = [r for r in rows if r["draw"] is not None and math.isfinite(r["draw"])]
        first = sorted(finite, key=lambda r: (-r["draw"], r["text_uid"]))[:num]
        assert found == {r["text_uid"] for r in first}


def test_no_rule_is_blamed_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or for a full disk, which DuckDB reports in the same way."""
    rows = [row(i, i, language=f"{i % 2}" * 2000) for i in range(2000)]
    ordered = {"quota": "q", "per": "language", "at_most": 3, "prefer": "language || text_uid"}
    connect = database.connect

    def with_a_full_disk(**options: Any) -> database.Connection:
        con = connect(**options)
        con.execute("set max_temp_directory_size = '1KB'")
        return con

    monkeypatch.setattr("pipelines.decide.MEMORY_LIMIT", "2MB")
    monkeypatch.setattr(database, "connect", with_a_full_disk)
    with pytest.raises(database.SqlError) as failed:
        decisions(rows, [ordered])
    assert database.is_of_the_machine(failed.value)


def test_no_rows_and_one_row_under_every_kind_of_rule() -> None:
    assert decisions([], EVERYTHING) == {}
    alone = decisions([row(1, 1, entry_ids=[3])], EVERYTHING)
    assert [each["kept"] for each in alone.values()] == [True]
    missing = dict.fromkeys(("width_px", "height_px", "clip_score", "language", "entry_ids", "entry_language"))
    nothing = decisions([row(1, 1, **missing)], EVERYTHING)["t001"]
    assert nothing["rejected_by"] == ["scored", "language", "best", "b", "w"]
    assert json.loads(nothing["saw"][0]) == {"clip_score": None}


def test_what_is_computed_and_not_finite_weighs_nothing_and_is_in_no_cut() -> None:
    """Stored scores are finite; what a policy computes of them need not be."""
    rows = [row(1, 1, clip_score=0.0), row(2, 2, clip_score=0.5)]
    found = decisions(rows, [{"weight": "w", "value": "0.25 / clip_score"}, {"top": "t", "by": "1 / clip_score",
                                                                            "fraction": 1.0}])  # fmt: skip
    assert [found[uid]["kept"] for uid in ("t001", "t002")] == [False, True]
    assert found["t001"]["rejected_by"] == ["w", "t"]
    ratio = "(height_px - 64) / (width_px - 64)"  # 0 / 0 of the first row, which is no ratio above anything
    found = decisions([row(1, 1), row(2, 2, width_px=128, height_px=128)], [{"rule": "r", "keep": f"{ratio} > 0.3"}])
    assert [found[uid]["kept"] for uid in ("t001", "t002")] == [False, True]


TEXTS_AS_NUMBERS = [
    # predicate over a text, which texts it keeps
    ("language::double > 0.3", ["0.5", "inf"]),
    ("cast(language as float) > 0.3 -- single", ["0.5", "inf"]),
    ("try_cast(language as real) > 0.3 or language = 'x'", ["0.5", "inf", "x"]),
    ("not language::float8 <= 0.3", ["0.5", "inf"]),
    ("language::double is null", [None, "nan", "-NaN"]),
    ("len(list_filter([language], lambda each: each::double > 0.3)) = 1", ["0.5", "inf"]),
    ("coalesce(language::double, 9) > $least", [None, "nan", "-NaN", "inf"]),
    ("language::float = '0.3'", ["0.3"]),
    ("language::float <= 0.3 or language like '%na%'", ["0.3", "-1", "nan"]),
]


@pytest.mark.parametrize(("keep", "stay"), TEXTS_AS_NUMBERS)
def test_nan_in_a_text_is_no_number(keep: str, stay: list[str | None]) -> None:
    """NaN, which links of LAION's kind hold as text, is larger than every threshold to DuckDB."""
    texts = [None, "0.5", "0.3", "-1", "nan", "-NaN", "inf", *(["x"] if "try_cast" in keep else [])]
    rows = [row(n, n, language=text) for n, text in enumerate(texts)]
    rule = {"rule": "r", "keep": keep, **({"at": {"least": 8}} if "$" in keep else {})}
    for policy in ([rule], [{"rule": "any", "keep": "width_px > 0"}, {"balance": "b", "t": 1, "where": keep}]):
        if "at" in rule and policy != [rule]:
            continue
        found = decisions(rows, policy)
        touched = [d["kept"] if policy == [rule] else d["keep_probability"] is not None for d in found.values()]
        assert {text for text, is_so in zip(texts, touched, strict=True) if is_so} == set(stay)


@pytest.mark.parametrize("rule", [{"dedupe": "r"}, {"quota": "r", "per": "width_px", "at_most": 1}])
def test_nan_in_a_text_is_not_preferred(rule: dict[str, Any]) -> None:
    rows = [row(n, n, language=text) for n, text in enumerate(["nan", "0.2", "0.9", None])]
    groups = {f"m{n:03d}": "g" for n in range(4)}
    found = decisions(rows, [{**rule, "prefer": "language::double desc, text_uid"}], groups)
    assert [uid for uid, each in found.items() if each["kept"]] == ["t002"]


EVERYTHING = [
    {"rule": "scored", "keep": "clip_score >= 0.25"},
    {"dedupe": "near"},
    {"quota": "language", "per": "language", "at_most": 4, "unit": "texts"},
    {"top": "best", "by": "clip_score", "fraction": 0.7},
    {"balance": "b", "t": 1},
    {"weight": "w", "value": "clip_score"},
]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32), st.integers(8, 40), st.integers(1, 3))
def test_decisions_depend_on_no_batch_and_no_thread(seed: int, batch_rows: int, threads: int) -> None:
    chance = random.Random(seed)
    rows = [
        row(
            i,
            i // 2,
            clip_score=chance.choice([0.0, 0.25, 0.5]),
            language=chance.choice(["en", "de"]),
            entry_ids=sorted({chance.randrange(5) for _ in range(3)}),
            draw=chance.random(),
        )
        for i in range(30)
    ]
    groups = {f"m{i:03d}": f"g{i % 4}" for i in range(0, 15, 2)}
    once = decisions(rows, EVERYTHING, groups)
    assert decisions(rows, EVERYTHING, groups, batch_rows=batch_rows, threads=threads) == once
    chance.shuffle(rows)
    assert decisions(rows, EVERYTHING, groups, threads=threads) == once
