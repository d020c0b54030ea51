"""Every published recipe from links to a sealed version, on drawn pictures with a small model.

What is kept must be what the plain readings of tests/recipes/test_selection.py keep of the computed signals.
"""

import itertools
from pathlib import Path
from typing import Any

import pytest

from pipelines.plan import plan
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.workers import SerialWorkers
from tests.recipes.published import published
from tests.recipes.test_selection import CHANGES, READINGS, SEMANTIC
from tests.stores import Served, options, rows, run

pytestmark = pytest.mark.slow
COLUMNS = "columns: {url: url, text: text}"


def all_pairs(edges: list[dict[str, Any]]) -> list[tuple[str, str, float]]:
    """Every pair of likes; of equal vectors the edges name the first alone, with the others behind it."""
    equal: dict[str, list[str]] = {}
    for edge in edges:
        if edge["kind"].endswith("(same)"):
            equal.setdefault(edge["uid"], [edge["uid"]]).append(edge["other_uid"])
    found = [(a, b, 1.0) for those in equal.values() for n, a in enumerate(those) for b in those[n + 1 :]]
    for edge in edges:
        if not edge["kind"].endswith("(same)"):
            ends = (equal.get(edge[name], [edge[name]]) for name in ("uid", "other_uid"))
            found += [(a, b, edge["similarity"]) for a, b in itertools.product(*ends)]
    return found


@pytest.mark.parametrize("name", sorted(READINGS))
def test_a_recipe_runs_and_keeps_what_its_source_keeps(
    name: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.main_job import load

    changes = {COLUMNS: "columns: {url: url, text: caption, language: language}", **CHANGES.get(name, {})}
    path = published(name, tmp_path / "r", **changes)
    store = tmp_path / "store"
    found = load(options(store, path, [served.links]))
    lines = plan(Run(found, Store(store), SerialWorkers(), Store(store).state()))
    assert lines[0].to_run == "1 link tables"
    said = run(store, path, served.links)
    assert any("nothing lost, nothing doubled" in line for line in said)
    candidates = rows(store, "select * from candidates")
    decided = {row["text_uid"]: row["kept"] for row in rows(store, "select * from decided")}
    assert len(decided) == len(candidates) > 40
    if name == "semdedup":
        found_pairs = all_pairs(rows(store, "select uid, other_uid, kind, similarity from semantic_edges"))
        monkeypatch.setattr("tests.recipes.test_selection.SEMANTIC", found_pairs)
        assert found_pairs != SEMANTIC
    assert {uid for uid, kept in decided.items() if kept} == READINGS[name](candidates)
    assert sum(decided.values()) == len(rows(store, "select distinct text_uid from members"))
