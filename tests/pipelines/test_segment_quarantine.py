"""Videos and sounds that kill their decoder: found once, with one row whatever was being done with them, and never
handed to a child again by a part or a run that comes later."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.media.av_decode import AvDecoder
from curation.media.av_types import AvLimits
from curation.schema import SEGMENTS
from curation.table import Part, find_part, open_part, read_part, write_part
from flows.main_job import load
from pipelines.download import fatal_bytes
from pipelines.segment import segment_part
from pipelines.segment_stage import wanted_segments
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.workers import SerialWorkers
from tests.curation.av import media
from tests.pipelines.av_store import Finished
from tests.pipelines.test_segment import OPTIONS, sources
from tests.stores import options

LIMITS = AvLimits()


class Deadly(AvDecoder):
    """Its child is really killed as it is asked for `op` of one medium. deaths: how often that was."""

    def __init__(self, poison: bytes, op: str) -> None:
        super().__init__(LIMITS)
        self.poison, self.op, self.deaths = poison, op, 0
        self._now: tuple[Any, str] | None = None

    def _ask(self, source: Any, request: Any, collector: Any) -> Any:
        self._now = source, request["op"]
        return super()._ask(source, request, collector)

    def _start(self) -> Any:
        child = super()._start()
        if self._now == (self.poison, self.op):
            self.deaths += 1
            os.kill(child._process.pid, signal.SIGKILL)
        return child


def cut(folder: Path, bodies: list[bytes], decoder: AvDecoder, monkeypatch: Any, fatal: Any = None) -> Part:
    monkeypatch.setattr("pipelines.segment.av_decoder", lambda _limits: decoder)
    part = sources(folder, list(bodies))
    with decoder:
        segment_part(part.path, folder / "segments", 0, "1" * 64, OPTIONS, LIMITS, fatal)
    (path,) = (folder / "segments").glob("*.parquet")
    return open_part(path)


@pytest.mark.parametrize("op", ["decode", "cut", "texts"])
def test_what_kills_has_one_row_and_is_not_asked_of_again(
    op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it dies of the first look, of the cut or of the subtitles; a copy beside it, and one in another part that
    is made by another process, get the same row without a child."""
    good, poison = media.small("mp4", 1.5, 1), media.small("mp4", 1.5, 2)
    deadly = Deadly(poison, op)
    first = cut(tmp_path / "first", [poison, good, poison], deadly, monkeypatch)
    rows = read_part(first.path).to_pylist()
    assert [(row["source_uid"], row["status"], row["reason"], row["detail"]) for row in rows] == [
        ("m0", "failed", "av.decoder_crash", "signal 9"),
        ("m1", "ok", None, None),
        ("m2", "failed", "av.decoder_crash", "signal 9"),
    ]
    assert (deadly.deaths, deadly.num_starts) == (2, 3)
    known = fatal_bytes([first])
    assert known == {hashlib.sha256(poison).hexdigest(): ("av.decoder_crash", "signal 9")}
    later = Deadly(poison, op)
    again = cut(tmp_path / "later", [poison, good, poison], later, monkeypatch, known)
    assert (later.deaths, later.num_starts) == (0, 1)
    assert again.path.read_bytes() == first.path.read_bytes()


def test_a_segment_that_kills_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its packets are the source's; it dies as its head is looked at."""
    body = media.small("mp4", 1.5, 3)
    with AvDecoder(LIMITS) as calm:
        (whole,) = read_part(cut(tmp_path / "calm", [body], calm, monkeypatch).path).to_pylist()
    part = cut(tmp_path / "deadly", [body], Deadly(whole["bytes"], "probe"), monkeypatch)
    (row,) = read_part(part.path).to_pylist()
    assert (row["media_uid"], row["status"], row["reason"]) == (whole["media_uid"], "failed", "av.decoder_crash")
    assert (row["bytes"], row["frame"], row["sha256"]) == (None, None, whole["sha256"])
    assert part.stats["status"] == {"failed": 1}
    assert fatal_bytes([part]) == {whole["sha256"]: ("av.decoder_crash", "signal 9")}


def test_parts_that_are_there_tell_the_tasks_of_the_others(
    av_finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the store says that bytes of another part are deadly: the other one, made anew, believes it."""
    store = Store.open(av_finished.store)
    given = load(options(av_finished.store, av_finished.recipe, av_finished.sources))
    run = Run(given, store, SerialWorkers(), store.state(), say=lambda _: None)
    parts = [open_part(path) for path in store.files(run.state, "sources")]
    for each in wanted_segments(run, parts):
        assert each.task.arguments["fatal"] == {}
    monkeypatch.setattr(store, "table", lambda name: tmp_path / name)
    (first, *_, last) = wanted_segments(run, parts)
    (poison, *_) = (row for row in read_part(parts[-1].path).to_pylist() if row["status"] == "ok")
    dead = dict.fromkeys(SEGMENTS.names) | {"status": "failed", "sha256": poison["sha256"]}
    dead |= {"reason": "av.decoder_timeout", "detail": "CPU time"}
    table, stats = pa.Table.from_pylist([dead], schema=SEGMENTS), {"reasons": {"av.decoder_timeout": 1}}
    write_part(first.folder, first.index, first.key, table, stats=stats, plain=["bytes", "frame"])
    last = wanted_segments(run, parts)[-1]
    assert last.task.arguments["fatal"] == {poison["sha256"]: ("av.decoder_timeout", "CPU time")}
    with AvDecoder(LIMITS) as decoder:
        monkeypatch.setattr("pipelines.segment.av_decoder", lambda _limits: decoder)
        segment_part(**last.task.arguments)
    made = find_part(last.folder, last.index, last.key)
    assert made is not None
    rows = read_part(made.path).to_pylist()
    (row,) = (row for row in rows if row["source_uid"] == poison["media_uid"])
    assert (row["status"], row["reason"], row["detail"]) == ("failed", "av.decoder_timeout", "CPU time")
    before = read_part(store.files(run.state, "media")[-1]).to_pylist()
    others = [row for row in before if row["source_uid"] != poison["media_uid"]]
    assert [row for row in rows if row["source_uid"] != poison["media_uid"]] == others
