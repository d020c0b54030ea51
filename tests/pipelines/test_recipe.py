"""Recipes: what is published loads; every mistake is named with its file, line, place, value and the valid choices."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.recipe import load_recipe
from pipelines.used_steps import signal_paths
from pipelines.yaml_place import MAX_BYTES, RecipeError
from tests.stores import LOOSE, recipe


def mistake(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return str(caught.value)


def line_of(path: Path, text: str) -> int:
    """The last line that holds `text`, from 1."""
    return max(n for n, line in enumerate(path.read_text().splitlines(), start=1) if text in line)


def test_a_typo_in_a_field_is_named_with_its_line_and_the_choices(tmp_path: Path) -> None:
    path = recipe(tmp_path / "r.yaml", pack={"samples_per_shart": 3})
    said = mistake(path)
    assert f"{path}:{line_of(path, 'shart')}: pack.samples_per_shart" in said
    assert "did you mean 'samples_per_shard'" in said


def test_a_typo_at_the_top(tmp_path: Path) -> None:
    path = recipe(tmp_path / "r.yaml", signal=[])
    assert f"{path}:{line_of(path, 'signal: []')}: signal: no such field; did you mean 'signals'?" in mistake(path)


@pytest.mark.parametrize("use", ["curation.signals.probe.Prob", "curation.signals.prob.Probe", "os.path.join"])
def test_a_wrong_import_path_names_the_signals_there_are(tmp_path: Path, use: str) -> None:
    path = recipe(tmp_path / "r.yaml", signals=[{"use": "curation.signals.probe.Probe"}, {"use": use}])
    said = mistake(path)
    assert f"{path}:{line_of(path, use)}: signals[1]" in said
    assert repr(use) in said
    assert all(each in said for each in signal_paths())


@pytest.mark.parametrize("use", ["curation.signals.probe.ColumnSignal", "curation.signals.probe.Reason"])
def test_what_is_no_signal_is_refused(tmp_path: Path, use: str) -> None:
    path = recipe(tmp_path / "r.yaml", signals=[{"use": use}])
    assert f"{path}:{line_of(path, use)}: signals[0]" in mistake(path)


def test_a_wrong_field_of_a_signal(tmp_path: Path) -> None:
    path = recipe(tmp_path / "r.yaml", signals=[{"use": "curation.signals.keyed_draw.KeyedDraw", "sed": 3}])
    said = mistake(path)
    assert f"{path}:{line_of(path, 'KeyedDraw')}: signals[0]" in said
    assert "KeyedDraw.sed" in said
    assert "did you mean 'seed'" in said


@pytest.mark.parametrize(
    ("item", "field", "value"),
    [
        ({"rule": "wide", "keep": "widht_px > 3"}, "keep", "widht_px > 3"),
        ({"rule": "wide", "keep": "width_px + 3"}, "keep", "width_px + 3"),
        ({"rule": "wide", "keep": "width_px >"}, "keep", "width_px >"),
        ({"rule": "wide", "keep": "true; drop table x"}, "keep", "true; drop table x"),
        ({"top": "best", "by": "clip_score", "fraction": 0.3}, "by", "clip_score"),
        ({"dedupe": "d", "prefer": "no_column desc"}, "prefer", "no_column desc"),
        ({"balance": "b", "t": 3, "where": "lang = 'en'"}, "where", "lang = 'en'"),
        ({"balance": "b", "t": 3, "entries": "no_entries"}, "entries", "no_entries"),
    ],
)
def test_a_predicate_that_cannot_be_bound(tmp_path: Path, item: dict[str, Any], field: str, value: str) -> None:
    path = recipe(tmp_path / "r.yaml", [*LOOSE, item])
    said = mistake(path)
    assert f"{path}:{line_of(path, value)}: policy[2].{field}" in said
    assert value in said
    assert "width_px" in said  # the columns there are


@pytest.mark.parametrize(
    ("item", "place", "value"),
    [
        ({"top": "best", "by": "width_px", "fraction": 1.5}, "policy[0].fraction", "1.5"),
        ({"top": "best", "by": "width_px", "fraction": "many"}, "policy[0].fraction", "many"),
        ({"rule": "Two Words", "keep": "true"}, "policy[0].rule", "Two Words"),
        ({"balance": "b", "t": 3, "no_match": "maybe"}, "policy[0].no_match", "maybe"),
    ],
)
def test_a_value_of_the_wrong_kind(tmp_path: Path, item: dict[str, Any], place: str, value: str) -> None:
    path = recipe(tmp_path / "r.yaml", [item])
    said = mistake(path)
    assert f"{path}:{line_of(path, value)}: {place}" in said
    assert value in said


def test_an_unknown_kind_of_rule(tmp_path: Path) -> None:
    path = recipe(tmp_path / "r.yaml", [*LOOSE, {"sieve": "fine"}])
    said = mistake(path)
    assert f"{path}:{line_of(path, 'sieve')}: policy[2]" in said
    assert "rule, top, quota, dedupe, decontaminate, balance, weight" in said


def test_two_rules_of_one_name(tmp_path: Path) -> None:
    path = recipe(tmp_path / "r.yaml", [{"rule": "a", "keep": "true"}, {"rule": "a", "keep": "width_px > 99"}])
    assert f"{path}:{line_of(path, '99') - 1}: policy[1]: two rules are called 'a'" in mistake(path)


def test_policy_and_rounds_exclude_each_other(tmp_path: Path) -> None:
    both = recipe(tmp_path / "r.yaml", rounds=[{"name": "one", "policy": LOOSE}])
    assert "either a `policy` or `rounds`" in mistake(both)
    neither = yaml.safe_load(both.read_text())
    del neither["policy"], neither["rounds"]
    both.write_text(yaml.safe_dump(neither))
    assert "either a `policy` or `rounds`" in mistake(both)


def in_rounds(path: Path, rounds: list[dict[str, Any]]) -> Path:
    content = yaml.safe_load(recipe(path).read_text())
    del content["policy"]
    path.write_text(yaml.safe_dump({**content, "rounds": rounds}, sort_keys=False))
    return path


def test_mistakes_inside_a_round_name_the_round(tmp_path: Path) -> None:
    good = {"name": "one", "policy": LOOSE}
    bad = {"name": "two", "policy": [*LOOSE, {"rule": "wide", "keep": "widht_px > 3"}]}
    path = in_rounds(tmp_path / "r.yaml", [good, bad])
    assert f"{path}:{line_of(path, 'widht_px')}: rounds[1].policy[2].keep" in mistake(path)
    clip = {"name": "two", "signals": [{"use": "curation.signals.clip_score.ClipScore"}], "policy": LOOSE}
    path = in_rounds(tmp_path / "r.yaml", [good, clip])
    said = mistake(path)
    assert f"{path}:{line_of(path, 'ClipScore')}: rounds[1].signals[0]" in said
    assert "which no signal of the recipe writes" in said
    path = in_rounds(tmp_path / "r.yaml", [good, good])
    assert "two rounds have the same name" in mistake(path)


def test_a_signal_that_reads_what_nobody_writes(tmp_path: Path) -> None:
    path = recipe(tmp_path / "r.yaml", signals=[{"use": "curation.signals.caption_statistics.CaptionStatistics"}])
    said = mistake(path)
    assert f"{path}:{line_of(path, 'CaptionStatistics')}: signals[0]" in said
    assert "'text_clean'" in said


def test_two_signals_that_write_one_column(tmp_path: Path) -> None:
    twice = [{"use": "curation.signals.probe.Probe"}, {"use": "curation.signals.probe.Probe"}]
    path = recipe(tmp_path / "r.yaml", signals=twice)
    said = mistake(path)
    assert f"{path}:{line_of(path, 'probe')}: signals[1]" in said
    assert "Probe has already" in said


@pytest.mark.parametrize(
    ("changes", "place", "value"),
    [
        ({"pack": {"columns": ["nonesuch"]}}, "pack.columns", "nonesuch"),
        ({"pack": {"text_columns": ["nonesuch"]}}, "pack.text_columns", "nonesuch"),
        ({"duplicates": {"exact": ["nonesuch"], "perceptual": False}}, "duplicates.exact", "nonesuch"),
        ({"duplicates": {"exact": ["num_words"], "perceptual": False}}, "duplicates.exact", "num_words"),
        ({"duplicates": {"exact": ["sha256"], "perceptual": True}}, "duplicates.perceptual", "look"),
    ],
)
def test_a_column_that_is_not_there(tmp_path: Path, changes: dict[str, Any], place: str, value: str) -> None:
    path = recipe(tmp_path / "r.yaml", **changes)
    said = mistake(path)
    assert f": {place}: " in said
    assert repr(value) in said


def test_an_empty_policy_still_keeps_nothing_without_bytes(tmp_path: Path) -> None:
    content = yaml.safe_load(recipe(tmp_path / "r.yaml").read_text())
    path = tmp_path / "empty.yaml"
    path.write_text(yaml.safe_dump({**content, "policy": []}))
    assert [item.name for item in load_recipe(path).all_rounds()[0].policy] == ["downloaded"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: [unclosed", "is not valid YAML"),
        ("name: x\n bad: indent", "is not valid YAML"),
        ("- a\n- list\n", "a file of fields"),
        ("", "a file of fields"),
        ("name: x\npolicy: []\nname: y\n", ":3: name: this field stands in line 1 already"),
        ("name: x\npack:\n  columns: []\n  columns: [url]\npolicy: []\n", ":4: columns: this field"),
        ("[" * 2000, "is not valid YAML"),
        ("!!python/object/apply:os.system [true]", "is not valid YAML"),
        ("policy: []\n", "name: this field is required"),
        ("name: x\npolicy: 3\n", ":2: policy"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    said = mistake(path)
    assert said.startswith(str(path))
    assert problem in said


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in mistake(tmp_path / "nowhere.yaml")
    assert "cannot be read" in mistake(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff")
    assert "cannot be read" in mistake(tmp_path / "latin.yaml")
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte: only its beginning may be read
    assert f"larger than {MAX_BYTES} bytes" in mistake(huge)


def test_aliases_do_not_multiply(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 200)]
    path = tmp_path / "r.yaml"
    path.write_text("\n".join(lines))
    assert "no such field" in mistake(path)


def test_links_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = recipe(
        tmp_path / "r.yaml", source={"links": ["a.parquet", "/b.parquet"], "columns": {"text": "caption"}}, pack={}
    )
    found = load_recipe(path)
    assert found.source.links == [tmp_path / "a.parquet", Path("/b.parquet")]
    assert found.source.columns.text == ["caption"]


@pytest.mark.parametrize(
    ("item", "field", "value", "said"),
    [
        ({"rule": "r", "keep": "count(*) over () > 3"}, "keep", "count(*)", "it holds a window"),
        ({"rule": "r", "keep": "avg(width_px) > 3"}, "keep", "avg(", "cannot contain aggregates"),
        ({"rule": "r", "keep": "width_px > (select 3)"}, "keep", "(select 3)", "it holds a subquery"),
        ({"rule": "r", "keep": "random() > 0.5"}, "keep", "random()", "compare the column `draw`"),
        ({"rule": "r", "keep": "now() > '2026-01-01'"}, "keep", "now()", "not the same in every run"),
        ({"rule": "r", "keep": "current_date > '2026-01-01'"}, "keep", "current_date", "not the same in every run"),
        ({"top": "t", "by": "sum(width_px)", "fraction": 0.5}, "by", "sum(", "cannot contain aggregates"),
        ({"quota": "q", "per": "uuid()", "at_most": 3}, "per", "uuid()", "not the same in every run"),
        ({"quota": "q", "per": "no_column", "at_most": 3}, "per", "no_column", "no_column"),
        ({"quota": "q", "per": "url", "at_most": 3, "prefer": "random()"}, "prefer", "random()", "in every run"),
        ({"weight": "w", "value": "url"}, "value", "value: url", "of type VARCHAR, not NUMBER"),
        ({"weight": "w", "value": "widht_px"}, "value", "widht_px", "widht_px"),
        ({"dedupe": "d", "prefer": "random()"}, "prefer", "random()", "not the same in every run"),
    ],
)
def test_a_rule_looks_at_one_row_and_says_the_same_in_every_run(
    tmp_path: Path, item: dict[str, Any], field: str, value: str, said: str
) -> None:
    path = recipe(tmp_path / "r.yaml", [*LOOSE, item])
    found = mistake(path)
    assert f"{path}:{line_of(path, value)}: policy[2].{field}" in found
    assert said in found
