"""How the main job ends, whatever the machine does meanwhile."""

import errno
import time
from pathlib import Path

import pytest

from flows.main_job import running, steps
from pipelines.sources import SourceError
from tests.stores import last_run, links_file, options, recipe


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_failed_is_said_where_not_even_the_record_finds_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.main_job.record", full_disk)
    given = options(tmp_path / "store", recipe(tmp_path / "r.yaml"), [tmp_path / "none.parquet"])
    with pytest.raises(SourceError, match=r"none\.parquet"), running(given, print) as run:
        steps(run, "serial")[0].work()
    with pytest.raises(OSError, match="No space left"), running(given, print):
        pass  # nothing failed before


def test_the_duration_of_a_run_whose_clock_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = links_file(tmp_path / "l.parquet", [("http://127.0.0.1:1/a.png", "a")])
    given = options(tmp_path / "store", recipe(tmp_path / "r.yaml"), [links])
    now = time.time()
    with running(given, print) as run:
        monkeypatch.setattr(time, "time", lambda: now - 3600)
        steps(run, "serial")[0].work()
    assert 0 <= last_run(tmp_path / "store")["seconds"] < 60
