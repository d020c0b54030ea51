"""Copies among segments: the same for every cut, slicing and growth of the pool, and no old pair compared again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.av.copies import MAX_COMMON, VIDEO_RULE, Asked, Track, common_hashes, copies
from curation.duplicate_search import SegmentSearch
from curation.signals.media_fingerprint import MediaFingerprint
from curation.step import digest
from curation.table import read_part, write_part
from pipelines import database, dedupe_segments
from pipelines.dedupe_segments import find_matches
from pipelines.segment_job import common_of
from pipelines.stage import Run
from pipelines.store import State, Store
from pipelines.workers import SerialWorkers

SEARCH = SegmentSearch(min_share=0.5)
SCHEMA = pa.schema([("media_uid", pa.string()), *MediaFingerprint().writes()])
NUM = 60


def segments(seed: int = 0) -> list[dict[str, Any]]:
    """Sixty segments; every third is a trimmed, slightly changed copy of one before; some are without pictures."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(NUM):
        frames = rng.integers(0, 2**63, 40).astype(np.uint64)
        sounds = rng.integers(0, 2**32, 300).astype(np.uint32)
        if number % 3 == 2:
            of = rows[int(rng.integers(number - 1))]
            frames = np.frombuffer(of["video_fingerprint"] or frames.astype("<u8").tobytes(), "<u8")[5:].copy()
            frames ^= np.uint64(1) << rng.integers(0, 64, len(frames)).astype(np.uint64)
            sounds = np.frombuffer(of["audio_fingerprint"], "<u4")[20:].copy()
        has_video = number % 7 != 3
        uid = rng.bytes(16).hex()
        rows.append(
            {
                "media_uid": uid,
                "video_fingerprint": frames.astype("<u8").tobytes() if has_video else None,
                "video_known": np.ones(len(frames), bool).tobytes() if has_video else None,
                "audio_fingerprint": sounds.astype("<u4").tobytes(),
                "audio_known": np.ones(len(sounds), bool).tobytes(),
                "audio_start_s": 0.0,
            }
        )
    return rows


def part(folder: Path, index: int, rows: list[dict[str, Any]]) -> Path:
    return write_part(folder, index, digest("part", index), pa.Table.from_pylist(rows, schema=SCHEMA)).path


def search(store: Path, files: list[Path], rows: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    run = Run(None, Store.create(store), SerialWorkers(), State(), say=lambda _: None)  # type: ignore[arg-type]
    con = database.connect()
    con.register("found", pa.Table.from_pylist(rows, schema=SCHEMA))
    edges, facts = find_matches(run, con, files, SEARCH)
    con.close()
    return sorted(edges.to_pylist(), key=str), sorted(facts.to_pylist(), key=str)


def test_parts_slices_and_growth_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = segments()
    whole = search(tmp_path / "a", [part(tmp_path / "1", 0, rows)], rows)
    assert len(whole[1]) >= NUM // 4
    assert {each["kind"] for each in whole[1]} == {"video", "audio"}
    assert all(each["media_uid"] < each["other_uid"] for each in whole[1])
    files = [part(tmp_path / "6", k, rows[10 * k : 10 * k + 10]) for k in range(6)]
    assert search(tmp_path / "b", files, rows) == whole
    monkeypatch.setattr(dedupe_segments, "BUCKET_ENTRIES", 17)  # in slices of some 15
    monkeypatch.setattr(dedupe_segments, "GROUP_PARTS", 2)
    assert search(tmp_path / "c", files, rows) == whole
    assert len(list((tmp_path / "c" / "tables" / "segment_pairs_video").glob("*.parquet"))) >= 6  # pairs of slices
    for last in (2, 3, 6):  # the pool grows
        grown = search(tmp_path / "d", files[:last], rows[: 10 * last])
    assert grown == whole
    fewer = search(tmp_path / "d", files[:3], rows[:30])  # and shrinks
    assert fewer == search(tmp_path / "e", files[:3], rows[:30])


def test_nothing_old_is_compared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = segments()
    files = [part(tmp_path / "3", k, rows[20 * k : 20 * k + 20]) for k in range(3)]
    asked: list[int] = []

    def counted(tracks: Any, rule: Any, asking: Asked, common: Any) -> Any:
        a, b = np.triu_indices(len(tracks), 1)
        asked.append(int(asking.of(a, b).sum()))
        return copies(tracks, rule, asking, common)

    monkeypatch.setattr("pipelines.segment_job.copies", counted)
    search(tmp_path / "a", files[:2], rows[:40])
    first = list(asked)
    search(tmp_path / "a", files, rows)
    second = asked[len(first) :]
    audio = [40 * 39 // 2, 60 * 59 // 2 - 40 * 39 // 2]
    assert [first[-1], second[-1]] == audio
    asked.clear()
    search(tmp_path / "a", files, rows)
    assert asked == []


def test_a_pair_that_is_not_asked_for_is_not_there() -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2**63, 30).astype(np.uint64)
    tracks = [Track(base, np.ones(30, bool), 0.2) for _ in range(4)]
    every = {(match.a, match.b) for match in copies(tracks, VIDEO_RULE)}
    assert len(every) == 6
    new = Asked(np.array([False, False, True, False]))
    assert {(m.a, m.b) for m in copies(tracks, VIDEO_RULE, new)} == {(0, 2), (1, 2), (2, 3)}
    sides = Asked(np.ones(4, bool), np.array([0, 0, 1, 1]))
    assert {(m.a, m.b) for m in copies(tracks, VIDEO_RULE, sides)} == {(0, 2), (0, 3), (1, 2), (1, 3)}


def test_common_hashes_do_not_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logo, rng = np.arange(1, 9, dtype=np.uint64) * np.uint64(0x0123456789ABCDEF), np.random.default_rng(2)
    rows = []
    for number in range(MAX_COMMON + 1):
        frames = np.concatenate([logo, rng.integers(0, 2**63, 4).astype(np.uint64)])
        row = dict.fromkeys(SCHEMA.names) | {"media_uid": f"{number:032x}"}
        rows.append(row | {"video_fingerprint": frames.astype("<u8").tobytes(), "video_known": b"\1" * len(frames)})
    files = [part(tmp_path / "p", 0, rows)]
    assert common_of(files, "video") == sorted(logo.tolist())
    assert common_of(files, "audio") == []
    monkeypatch.setattr("pipelines.segment_job.COUNTED_AT_A_TIME", 500)
    assert common_of(files, "video") == sorted(logo.tolist())
    assert search(tmp_path / "a", files, rows)[1] == []
    few = rows[: MAX_COMMON - 1]
    assert len(common_hashes([np.frombuffer(row["video_fingerprint"], "<u8") for row in few])) == 0


def test_what_a_task_writes_is_a_part(tmp_path: Path) -> None:
    rows = segments()
    search(tmp_path / "a", [part(tmp_path / "1", 0, rows)], rows)
    (path,) = (tmp_path / "a" / "tables" / "segment_pairs_video").glob("*.parquet")
    table = read_part(path)
    assert table.schema.names == ["media_uid", "other_uid", "offset_s", "overlap_s", "distance"]
