"""Sweep: every cell of the grid against the decisions of its policy."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from curation.policy import Policy
from pipelines.sweep import cells, read_grid, shown, sweep
from pipelines.views import DUPLICATES
from pipelines.yaml_place import RecipeError
from tests.pipelines.policies import COLUMNS, decisions, row
from tests.pipelines.table_rows import TableRows

POLICY: list[dict[str, Any]] = [
    {"rule": "wide", "keep": "width_px >= $least", "at": {"least": 32}},
    {"top": "best", "by": "clip_score", "fraction": 0.5},
    {"balance": "b", "t": 1, "where": "language = 'en'", "no_match": "keep"},
]
ROWS = [
    row(i, i // 2, width_px=8 * (i % 7), clip_score=i / 64, language=["en", "de", "zh"][i % 3], entry_ids=[i % 2])
    for i in range(24)
]


def test_every_cell_is_what_its_policy_decides() -> None:
    grid = read_grid(["wide.least=0,16", "best.fraction=0.25,1.0"], None)
    found = cells(TypeAdapter(Policy).validate_python(POLICY), grid)
    said: list[str] = []
    rows = TableRows(pa.Table.from_pylist(ROWS, schema=COLUMNS), batch_rows=8)
    table = sweep(rows, found, {"duplicates": DUPLICATES.empty_table()}, said.append, threads=2)
    assert len(said) == 4
    for chosen, _ in found:
        policy = [
            {**POLICY[0], "at": {"least": chosen["wide.least"]}},
            {**POLICY[1], "fraction": chosen["best.fraction"]},
            POLICY[2],
        ]
        decided = decisions(ROWS, policy)
        kept = [r for r in ROWS if decided[r["text_uid"]]["kept"]]
        lines = {
            line["language"]: line
            for line in table.to_pylist()
            if all(line[name] == value for name, value in chosen.items())
        }
        assert (lines[None]["texts"], lines[None]["pool_texts"]) == (len(kept), len(ROWS))
        assert lines[None]["samples"] == len({r["sample_uid"] for r in kept})
        for language in ("en", "de", "zh"):
            assert lines[language]["texts"] == sum(r["language"] == language for r in kept)
            assert lines[language]["keep_rate"] == lines[language]["texts"] / 8
    lines = shown(table, list(grid))
    assert len(lines) == 4
    assert list(lines[0])[:5] == ["wide.least", "best.fraction", "texts", "samples", "rate"]


def test_values_of_several_kinds_are_shown_as_texts() -> None:
    small = {"rule": "small", "keep": "width_px < $most", "at": {"most": 64}}
    policy = [{"rule": "any", "keep": "width_px > 8"}, small]
    grid = read_grid(["any.keep=true,width_px > 16", f"small.most=16,{2**70}"], None)
    table = sweep(
        TableRows(pa.Table.from_pylist(ROWS, schema=COLUMNS)),
        cells(TypeAdapter(Policy).validate_python(policy), grid),
        {},
        [].append,
    )
    kept = {(line["any.keep"], line["small.most"]): line["texts"] for line in shown(table, list(grid))}
    widths = [r["width_px"] for r in ROWS]
    assert kept == {
        ("true", "16"): sum(width < 16 for width in widths),
        ("true", str(2**70)): len(widths),
        ("width_px > 16", "16"): 0,
        ("width_px > 16", str(2**70)): sum(width > 16 for width in widths),
    }


class OneEmptyBatch(TableRows):
    """As a pool whose only part has no rows."""

    @property
    def sizes(self) -> list[int]:
        return [0]


def test_of_no_texts_there_is_no_rate() -> None:
    grid = read_grid(["wide.least=0,16"], None)
    found = cells(TypeAdapter(Policy).validate_python(POLICY), grid)
    table = sweep(OneEmptyBatch(COLUMNS.empty_table()), found, {}, [].append)
    assert [(line["texts"], line["pool_texts"], line["keep_rate"]) for line in table.to_pylist()] == [(0, 0, None)] * 2
    assert [line["rate"] for line in shown(table, list(grid))] == ["", ""]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "a sweep needs values"),
        (["best"], "is not RULE.FIELD="),
        (["best.fraction="], "is not RULE.FIELD="),
        (["best.fraction=0.1", "best.fraction=0.2"], "set twice"),
        (["bst.fraction=0.1"], "did you mean 'best'"),
        (["best.fracton=0.1"], "did you mean 'fraction'"),
        (["best.fraction=2"], "less than or equal to 1"),
        (["best.fraction=[1]"], "is no number"),
        (["wide.most=1"], "no field or threshold 'most'"),
        (["wide.least=" + ",".join(map(str, range(40))), "b.t=" + ",".join(map(str, range(1, 41)))], "at most 1,000"),
    ],
)
def test_what_cannot_be_set_is_named(settings: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        cells(TypeAdapter(Policy).validate_python(POLICY), read_grid(settings, None))
    assert said in str(caught.value)


def test_a_value_that_makes_no_predicate_is_named_before_anything_is_counted() -> None:
    found = cells(TypeAdapter(Policy).validate_python(POLICY), read_grid(["wide.least=1,abc"], None))
    said: list[str] = []
    with pytest.raises(RecipeError, match=r"wide\.least = 'abc': wide\.keep: .*'abc'"):
        sweep(TableRows(pa.Table.from_pylist(ROWS, schema=COLUMNS)), found, {}, said.append)
    assert said == []


def test_a_grid_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("set:\n  b.t: [1, 2]\n  wide.keep: ['width_px > $least', '$least < 3, 4 > 2']\n")
    assert read_grid(["best.fraction=0.5"], path) == {
        "b.t": [1, 2],
        "wide.keep": ["width_px > $least", "$least < 3, 4 > 2"],
        "best.fraction": [0.5],
    }
    path.write_text("sett: {}\n")
    with pytest.raises(RecipeError, match=r"grid\.yaml:1: sett"):
        read_grid([], path)
