"""The download stage: which parts one task makes, and what a second attempt at it does."""

from pathlib import Path
from typing import Any

import pytest

from curation.schema import MEDIA
from curation.table import find_part, part_path, read_part
from flows.main_job import load
from pipelines import download as module
from pipelines.download import download_parts, download_tasks
from pipelines.draft import Draft
from pipelines.ingest import ingest
from pipelines.media_row import decoder
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.workers import SerialWorkers
from tests.stores import Served, digests, options, recipe


@pytest.fixture
def ingested(served: Served, tmp_path: Path) -> Run:
    """A pool of 8 samples a part; nothing is downloaded."""
    given = load(options(tmp_path / "store", recipe(tmp_path / "r.yaml"), [served.links]))
    store = Store.create(tmp_path / "store")
    ingest(given, store)
    return Run(given, store, SerialWorkers(), store.state(), say=lambda _: None)


def tasks(run: Run) -> list[list[int]]:
    """The parts that each task makes."""
    made = {id(each.task): each.task for each in download_tasks(run)}
    return [[index for index, *_ in task.arguments["parts"]] for task in made.values()]


def test_one_task_makes_parts_up_to_a_limit_and_every_worker_has_some(
    ingested: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(ingested.store.pool())
    assert count >= 5
    assert tasks(ingested) == [list(range(count))]
    monkeypatch.setattr(module, "MAX_TASK_ROWS", 16)
    assert tasks(ingested) == [list(range(i, min(i + 2, count))) for i in range(0, count, 2)]
    monkeypatch.setattr(module, "MAX_TASK_ROWS", 1)
    assert tasks(ingested) == [[i] for i in range(count)]
    monkeypatch.setattr(module, "MAX_TASK_ROWS", 10**6)
    monkeypatch.setattr(SerialWorkers, "count", 3)
    assert [len(each) for each in tasks(ingested)][:2] == [-(-count // 3)] * 2
    assert [index for each in tasks(ingested) for index in each] == list(range(count))


def test_a_second_attempt_makes_only_what_is_missing(ingested: Run) -> None:
    """As after a worker's death: the parts that it had published stay, the others are fetched."""
    (task, *_) = (each.task for each in download_tasks(ingested))
    arguments: dict[str, Any] = task.arguments
    first = {**arguments, "parts": arguments["parts"][1:3]}
    assert download_parts(**first)["rows"] == 16
    before = digests(arguments["folder"])
    done = download_parts(**arguments)
    total = sum(each.links.num_rows for each in ingested.store.pool())
    assert done["rows"] == total - 16
    assert digests(arguments["folder"]).items() >= before.items()
    assert all(find_part(arguments["folder"], index, key) is not None for index, key, _ in arguments["parts"])
    assert download_parts(**arguments) == {"rows": 0, "fetched_bytes": 0}
    # tasks are for what is not there
    assert [each.task.arguments["parts"] for each in download_tasks(ingested)] == [
        [part] for part in arguments["parts"]
    ]


def test_bytes_that_killed_decoders_are_not_tried_again_in_other_parts(ingested: Run) -> None:
    """The part that is there says what they are; a copy in a part that is made later gets its reason and detail."""
    (task, *_) = (each.task for each in download_tasks(ingested))
    arguments: dict[str, Any] = task.arguments
    assert arguments["fatal"] == {}
    folder, (index, key, _) = arguments["folder"], arguments["parts"][0]
    undisturbed = download_parts(**{**arguments, "folder": folder.parent / "other"})
    rows = read_part(part_path(folder.parent / "other", 1, arguments["parts"][1][1])).to_pylist()
    (poison, *_) = (row["sha256"] for row in rows if row["status"] == "ok")
    said = {"status": "failed", "reason": "img.decoder_crash", "detail": "signal 11", "sha256": poison}
    first = Draft(folder, 1)
    first.put(0, dict.fromkeys(MEDIA.names) | said)
    first.publish(index, key)
    (task, *_) = (each.task for each in download_tasks(ingested) if len(each.task.arguments["parts"]) > 1)
    assert task.arguments["fatal"] == {poison: ("img.decoder_crash", "signal 11")}
    decoder.cache_clear()
    assert download_parts(**task.arguments)["rows"] < undisturbed["rows"]
    decoder.cache_clear()
    again = read_part(part_path(folder, 1, arguments["parts"][1][1])).to_pylist()
    for row, before in zip(again, rows, strict=True):
        if before["sha256"] == poison:
            assert {name: row[name] for name in said} == said
            assert row["bytes"] is None
        else:
            assert row == before
