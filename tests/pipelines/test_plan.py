"""Plan: says what a run would do, does none of it, and is right."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curation.signals.text_hygiene import TextHygiene
from flows.main_job import load
from pipelines.plan import plan
from pipelines.score import planned_signals
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.workers import SerialWorkers
from tests.stores import LOOSE, SIGNALS, Served, digests, links_file, options, parts_run, recipe, run

PARTS = 2


@pytest.fixture
def folder(tmp_path: Path, served: Served) -> Path:
    links_file(tmp_path / "l.parquet", [(url, f"picture {i}") for i, url in enumerate(served.pictures[:12])])
    return tmp_path


def planned(folder: Path, *more: Path, **changes: Any) -> dict[str, tuple[str, str]]:
    store = Store(folder / "store")
    before = digests(folder)
    settings = load(
        options(store.root, recipe(folder.parent / f"{folder.name}.yaml", **changes), [folder / "l.parquet", *more])
    )
    lines = plan(Run(settings, store, SerialWorkers(), store.state()))
    assert digests(folder) == before
    return {line.step: (line.to_run, line.to_reuse) for line in lines}


def test_of_a_store_that_is_not_there(folder: Path) -> None:
    found = planned(folder)
    assert found["ingest"] == ("1 link tables", "0 link tables")
    assert "score, dedupe, select, pack" in found
    assert not (folder / "store").exists()


def test_a_plan_knows_of_the_signals_what_the_run_wrote_down(folder: Path) -> None:
    run(folder / "store", recipe(folder / "r.yaml"), folder / "l.parquet")
    store = Store(folder / "store")
    settings = load(options(store.root, folder / "r.yaml", [folder / "l.parquet"]))
    forgetful = replace(store.state(), signals={}, signal_keys={})
    assert planned_signals(Run(settings, store, SerialWorkers(), forgetful)) == (0, PARTS * len(SIGNALS))
    assert forgetful == store.state()
    assert len(forgetful.signal_keys) == len(SIGNALS)


def test_what_a_plan_says_is_what_a_run_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals = PARTS * len(SIGNALS)

    def do(*more: Path, **changes: Any) -> dict[str, int]:
        run(folder / "store", recipe(folder / "r.yaml", **changes), folder / "l.parquet", *more)
        return parts_run(folder / "store")

    do()
    done = planned(folder)
    assert done["ingest"] == ("0 link tables", "1 link tables")
    assert done["download"] == ("0 parts", f"{PARTS} parts")
    assert done["score"] == ("0 parts", f"{signals} parts")
    assert done["dedupe"] == done["select"] == ("0 parts", "1 part")

    changed: dict[str, Any] = {"policy": [*LOOSE, {"rule": "wide", "keep": "width_px > 20"}]}
    said = planned(folder, **changed)
    assert said["score"] == ("0 parts", f"{signals} parts")
    assert (said["dedupe"], said["select"]) == (("0 parts", "1 part"), ("1 part", "0 parts"))
    assert list(said)[-1] == "what follows select"
    assert {stage for stage, parts in do(**changed).items() if parts} <= {"select", "pack"}

    with monkeypatch.context() as patch:  # a changed model: new code is the same to a key
        patch.setattr(TextHygiene, "version", 99)
        said = planned(folder)
        assert said["score"] == (f"{2 * PARTS} parts", f"{signals - 2 * PARTS} parts")
        assert "dedupe, select, pack" in said
        assert do()["score"] == 2 * PARTS

    seeds = [{"use": f"curation.signals.{each}", **({"seed": 5} if "Draw" in each else {})} for each in SIGNALS]
    assert planned(folder, signals=seeds)["score"] == (f"{PARTS} parts", f"{signals - PARTS} parts")

    again = planned(folder, download={"fetch": {"max_bytes": 1_000_000}})
    assert again["download"] == (f"{PARTS} parts", "0 parts")

    more = links_file(folder / "2.parquet", [("http://127.0.0.1:9/x", "new")])
    assert planned(folder, more)["ingest"] == ("1 link tables", "1 link tables")
    assert planned(folder, more)["download"] == ("0 parts and those of the new links", f"{PARTS} parts")
