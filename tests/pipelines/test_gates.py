"""Gates: counts of each group against a dull reading, and a run that ends before anything is packed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from curation.policy import Policy
from pipelines.decide import Decider
from pipelines.gates import MAX_GROUPS, GateClosed, Judged, gate_counts, judge
from pipelines.reselect import reselect
from pipelines.solve import solve
from pipelines.yaml_place import RecipeError
from tests.pipelines.policies import COLUMNS, row
from tests.pipelines.table_rows import TableRows
from tests.stores import rows as ask
from tests.stores import tamis

GATE = {"gate": "fair", "of": "good", "min_texts": 1}
POLICY = [
    {"rule": "wide", "keep": "width_px > 32"},
    {"rule": "good", "keep": "clip_score >= 0.5"},
    {"rule": "later", "keep": "height_px > 32"},
]


def judged(rows: list[dict[str, Any]], gate: dict[str, Any], batch_rows: int = 1000) -> Judged:
    """What one gate behind `POLICY` finds in these rows."""
    table = pa.Table.from_pylist(rows, schema=COLUMNS)
    policy = TypeAdapter(Policy).validate_python([*POLICY, gate])
    with Decider(TableRows(table, batch_rows), policy, threads=1) as decider:
        solve(decider)
        parts = []
        for batch in range(len(decider.sizes)):
            decisions = decider.decisions(batch)
            assert decisions.column("kept").to_pylist() == [
                not bits for bits in decisions.column("rejections").to_pylist()
            ]
            parts.append(gate_counts(decider, batch, decisions.column("rejections").to_numpy())["gates"])
    return judge(policy, parts)[0]


@pytest.mark.family("F03")
@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", None]), st.booleans(), st.sampled_from([0.1, 0.9, None]), st.booleans()),
        max_size=25,
    ),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.integers(1, 4),
    st.integers(3, 30),
)
def test_counts_add_up_and_the_low_groups_are_those_of_a_dull_reading(
    drawn: list[tuple[str | None, bool, float | None, bool]], least: float, min_texts: int, batch_rows: int
) -> None:
    rows = [
        row(i, i, language=language, width_px=64 if wide else 10, clip_score=score, height_px=64 if tall else 10)
        for i, (language, wide, score, tall) in enumerate(drawn)
    ]
    found = judged(rows, {**GATE, "least": least, "min_texts": min_texts}, batch_rows)
    came = [each for each in drawn if each[1]]
    stayed = [each for each in came if each[2] == 0.9]
    assert (found.counted, found.kept) == (len(came), len(stayed))
    groups = {language or "unknown" for language, *_ in came}
    low = []
    for name in groups:
        counted = sum((each[0] or "unknown") == name for each in came)
        kept = sum((each[0] or "unknown") == name for each in stayed)
        assert found.groups[name] == [counted, kept]
        if counted >= min_texts and kept * len(came) < least * len(stayed) * counted:
            low.append(name)
    assert found.groups.keys() == groups
    assert found.low == sorted(low)


def test_a_gate_may_ask_by_any_expression_and_not_by_what_every_row_has_alone() -> None:
    rows = [row(i, i, language="en", clip_score=i / 10) for i in range(10)]
    found = judged(rows, {**GATE, "per": "case when draw < 0.7 then 'low' else 'high' end"})
    assert found.groups == {"low": [10, 5]}
    zeros = judged(rows, {**GATE, "per": "round(clip_score / 10 - 0.045)"})  # half of them are -0.0
    assert zeros.groups == {"0.0": [10, 5]}
    many = [row(i, i) | {"text_uid": f"t{i}"} for i in range(MAX_GROUPS + 1)]
    with pytest.raises(RecipeError, match="more than 5,000 groups by text_uid"):
        judged(many, {**GATE, "per": "text_uid"}, batch_rows=10_000)


@pytest.fixture(scope="module")
def store(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to decide about, and beside it its recipe."""
    root = tmp_path_factory.mktemp("gates")
    shutil.copytree(finished, root / "store")
    shutil.copy(finished.parent / "full.yaml", root / "full.yaml")
    return root / "store"


RULE = {"rule": "reads_english", "keep": "language_claimed = 'en' or length(text) % 8 = 0"}
"""Keeps an eighth of the other languages, the same in every run (`draw` goes by the server's port)."""


def select(store: Path, gate: dict[str, Any], name: str) -> list[str]:
    """Decide by a rule that rejects most texts that are not English, and by a gate; returns what was said."""
    policy = store.parent / f"{name}.yaml"
    policy.write_text(yaml.safe_dump({"policy": [RULE, {"gate": "fair", "of": RULE["rule"], **gate}]}))
    said: list[str] = []
    reselect(store.parent / "full.yaml", store, policy, name, "serial", said.append, lambda _: "")
    return said


PER = {"per": "language_claimed", "min_texts": 10}


@pytest.mark.family("F03")
def test_a_gate_ends_the_selection_before_anything_is_packed(store: Path) -> None:
    with pytest.raises(GateClosed) as caught:
        select(store, PER, "closed")
    said = str(caught.value)
    assert "the rule 'reads_english' keeps" in said
    assert "multilingual: true" in said
    assert not list((store / "versions").glob("closed-*"))
    (selection,) = (store / "selections").glob("closed-*.json")
    (gate,) = json.loads(selection.read_text())["gates"]
    came = ask(store, "select count(*) as n from candidates where status = 'ok'")[0]["n"]
    assert gate["counted"] == came == sum(group["counted"] for group in gate["groups"].values())
    assert gate["kept"] == sum(group["kept"] for group in gate["groups"].values()) > 0
    assert "en" not in gate["low"]
    assert gate["low"]
    assert all(language in said for language in gate["low"])
    # again: the decisions are there, and the gate is as closed as before
    with pytest.raises(GateClosed):
        select(store, PER, "closed")
    done = tamis(
        "select", store.parent / "full.yaml", "--store", store, "--policy", store.parent / "closed.yaml",
        "--name", "closed",
    )  # fmt: skip
    assert done.returncode == 2
    assert "Nothing was packed" in done.stderr


@pytest.mark.family("F03")
@pytest.mark.parametrize("gate", [{"multilingual": True}, {"otherwise": "warn"}, {"least": 0.01}])
def test_a_declared_scorer_a_warning_or_a_lower_mark_let_it_through(store: Path, gate: dict[str, Any]) -> None:
    name = "-".join(["open", *gate])
    said = "\n".join(select(store, {**PER, **gate}, name))
    assert ("declared multilingual" in said) == ("multilingual" in gate)
    assert ("the rule 'reads_english' keeps" in said) == ("least" not in gate)
    (manifest_path,) = (store / "versions").glob(f"{name}-*/manifest.json")
    manifest = json.loads(manifest_path.read_text())
    assert sum(manifest["languages"].values()) == manifest["num_texts"]
    (found,) = manifest["gates"]
    assert bool(found["low"]) == ("least" not in gate)
    assert found["kept"] == manifest["num_texts"]


def test_a_gate_judges_a_rule_above_it(store: Path) -> None:
    with pytest.raises(RecipeError, match=r"policy\[1\].of.*no rule above the gate is called 'reads_englich'; did you"):
        select(store, {"of": "reads_englich"}, "wrong")
    with pytest.raises(RecipeError, match=r"per: .*lanquage"):
        select(store, {"per": "lanquage"}, "wrong")
