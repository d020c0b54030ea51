"""Curve: kept texts and samples at every threshold against counting them one by one."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.curve import CurveOptions, curve, round_steps, shown, write_page
from pipelines.sources import SourceError
from tests.pipelines.policies import decisions
from tests.pipelines.policies import row as fields
from tests.pipelines.table_rows import TableRows

SCHEMA = pa.schema(
    [
        ("text_uid", pa.string()),
        ("sample_uid", pa.string()),
        ("url", pa.string()),
        ("language_claimed", pa.string()),
        ("text_source", pa.string()),
        ("language", pa.string()),
        ("status", pa.string()),
        ("clip_score", pa.float32()),
    ]
)
SCORES = [None, -0.25, 0.0, 0.25, 0.5]
DRAWN = st.lists(
    st.tuples(st.just(None), st.sampled_from(SCORES), st.sampled_from(["en", "de", None]), st.booleans()),
    min_size=1,
    max_size=20,
)


def table(drawn: list[tuple[int, float | None, str | None, bool]]) -> pa.Table:
    rows = [
        {
            "text_uid": f"t{i:03d}",
            "sample_uid": f"s{sample}",
            "url": f"http://Host{sample % 2}.example:8080/{sample}.png",
            "language_claimed": "fr",
            "text_source": [None, "alt", "title"][i % 3],
            "language": language,
            "status": "ok" if ok else "failed",
            "clip_score": score,
        }
        for i, (sample, score, language, ok) in enumerate(sorted(drawn, key=lambda each: each[0]))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@settings(max_examples=10, deadline=None)
@given(DRAWN, st.booleans(), st.booleans(), st.sampled_from([8, 12, 24]))
def test_curve_against_counting(drawn: list[Any], below: bool, only_ok: bool, batch_rows: int) -> None:
    pool = table([(i // 2, *rest) for i, (_, *rest) in enumerate(drawn)])  # a sample lies in one batch
    thresholds = (-0.25, 0.1, 0.25)
    where = "status = 'ok'" if only_ok else "true"
    options = CurveOptions("clip_score", thresholds, where, below)
    found = curve(TableRows(pool, batch_rows), options, threads=2).to_pylist()
    rows = [row for row in pool.to_pylist() if row["status"] == "ok" or not only_ok]
    groups: dict[tuple[str, str], list[Any]] = {("all", ""): rows} if rows else {}
    for row in rows:
        groups.setdefault(("language", row["language"] or "fr"), []).append(row)
        groups.setdefault(("source", row["text_source"] or ""), []).append(row)
        groups.setdefault(("host", f"host{int(row['sample_uid'][1:]) % 2}.example"), []).append(row)
    expected = set()
    for (kind, name), members in groups.items():
        scored = [row for row in members if row["clip_score"] is not None]
        for t in thresholds:
            kept = [row for row in scored if (row["clip_score"] <= t if below else row["clip_score"] >= t)]
            samples = len({row["sample_uid"] for row in kept})
            rate = len(kept) / len(scored) if scored else None
            if scored or kind == "all":
                expected.add((kind, name, t, len(scored), len(kept), rate, samples, len(members) - len(scored)))
    seen = {tuple(row[name] for name in ("kind", "name", "threshold", "texts", "kept", "keep_rate", "samples_kept",
                                         "missing")) for row in found}  # fmt: skip
    assert seen == expected
    assert len(found) == len(expected)


def test_thresholds_are_chosen_round_and_cover_the_texts() -> None:
    pool = table([(i, i / 100, "en", True) for i in range(60)])
    found = curve(TableRows(pool), CurveOptions("clip_score * 2")).to_pylist()
    steps = [row["threshold"] for row in found if row["kind"] == "all"]
    assert steps[0] == 0.0
    assert steps[-1] == pytest.approx(1.2)
    assert 12 <= len(steps) <= 22
    assert round_steps(0.1, 0.1) == (0.1,)
    assert round_steps(2.0, 3.0, least=1.0) == (2.0, 3.0)
    assert round_steps(-3.0, 17.0, 20) == tuple(float(i) for i in range(-3, 18))


def test_the_page_is_escaped_and_runs_nothing(tmp_path: Path) -> None:
    pool = table([(i, i / 10, "<script>", True) for i in range(5)])
    found = curve(TableRows(pool), CurveOptions("clip_score", (0.1, 0.2)))
    assert list(shown(found)[0]) == ["threshold", "texts kept", "of", "rate", "samples kept", "<script>"]
    write_page(found, "clip_score < '<b>'", tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert "<script" not in page
    assert "<b>" not in page
    assert page.count("<polyline") == 3 + 6  # all three times, one language, two hosts, three sources


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (CurveOptions("clip_scor"), "there is no column 'clip_scor'; did you mean 'clip_score'?"),
        (CurveOptions("clip_score", thresholds=(0.5, float("nan"))), "nan is no finite number"),
        (CurveOptions("url"), "not NUMBER"),
        (CurveOptions("clip_score", where="clip_score"), "not BOOLEAN"),
        (CurveOptions("avg(clip_score)"), "aggregates"),
        (CurveOptions("clip_score", where="false"), "no value in any text"),
        (CurveOptions("url::double", (0.5,)), "url::double: Conversion Error: Could not convert string 'http://Host1"),
        (CurveOptions("clip_score", where="url::int > 3"), "(try_cast gives null where a value does not fit its type)"),
        (CurveOptions(""), "predicate is empty"),
    ],
)
def test_what_cannot_be_measured_is_named(options: CurveOptions, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        curve(TableRows(table([(1, 0.5, "en", True)])), options)
    assert said in str(caught.value)


@pytest.mark.parametrize("threshold", [0.7, 0.1, 0.3])
@pytest.mark.parametrize("below", [False, True])
def test_a_threshold_that_scores_equal_is_met_as_in_a_policy(threshold: float, below: bool) -> None:
    pool = table([(i, threshold, "en", True) for i in range(3)])
    (row,) = (
        row
        for row in curve(TableRows(pool), CurveOptions("clip_score", (threshold,), below=below)).to_pylist()
        if row["kind"] == "all"
    )
    kept = [
        each["kept"]
        for each in decisions(
            [fields(n, n, clip_score=threshold) for n in range(3)],
            [{"rule": "clip", "keep": f"clip_score {'<=' if below else '>='} {threshold}"}],
        ).values()
    ]
    assert (row["threshold"], row["kept"]) == (threshold, sum(kept)) == (threshold, 3)
