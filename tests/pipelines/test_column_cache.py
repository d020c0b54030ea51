"""What selections keep for the next one: always what the tables hold, whatever happens to tables or cache."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.schema import MEDIA, TEXTS
from curation.table import part_path, write_part
from pipelines import column_cache, media_rows, pool_rows
from pipelines.column_cache import ColumnCache
from pipelines.media_rows import MEDIA_ROWS
from pipelines.pool_rows import PoolRows
from pipelines.store import Store

COLUMNS = ["text_uid", "status", "width_px", "clip_score", "media_uid"]
KEY = "a" * 64


def table(schema: pa.Schema, columns: dict[str, list[object]]) -> pa.Table:
    (size,) = {len(values) for values in columns.values()}
    return pa.table({f.name: pa.array(columns.get(f.name, [None] * size), f.type) for f in schema})


def write_media(root: Path, part: int, status: str, identity: str) -> Path:
    samples = [f"s{part}{i}" for i in range(3)]
    columns = {
        "media_uid": [f"m{each}" for each in samples],
        "sample_uid": samples,
        "role": ["primary"] * 3,
        "status": [status] * 3,
        "width_px": [10 * part + i for i in range(3)],
    }
    return write_part(root / "tables" / "media", part, KEY, table(MEDIA, columns), identity=identity).path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two parts of three pictures, the first picture of each with two texts."""
    names: dict[str, list[str]] = {"texts": [], "media": [], "signal_clip_score": []}
    for part in range(2):
        uids = [f"t{part}{i}" for i in range(4)]
        samples = [f"s{part}{i}" for i in (0, 0, 1, 2)]
        texts = table(TEXTS, {"text_uid": uids, "sample_uid": samples, "text": ["x" * 100] * 4})
        scores = pa.table({"text_uid": uids, "clip_score": pa.array([0.1 * i + part for i in range(4)], pa.float32())})
        for name, path in (
            ("texts", write_part(tmp_path / "tables" / "texts", part, KEY, texts).path),
            ("media", write_media(tmp_path, part, "ok", "first")),
            ("signal_clip_score", write_part(tmp_path / "tables" / "signal_clip_score", part, KEY, scores).path),
        ):
            names[name].append(path.relative_to(tmp_path).as_posix())
    (tmp_path / "pool").mkdir()
    parts = [{"index": i, "links": "", "texts": path} for i, path in enumerate(names["texts"])]
    (tmp_path / "pool" / "000001.json").write_text(json.dumps({"parts": parts, "sources": []}))
    (tmp_path / "state.json").write_text(json.dumps({"tables": names, "signals": {"clip_score": "text"}}))
    (tmp_path / "store.json").write_text(json.dumps({"format": "tamis.store/1"}))
    return Store.open(tmp_path)


def read(store: Store, keeps: bool, columns: Sequence[str] = COLUMNS) -> list[dict[str, object]]:
    rows = PoolRows(store, store.state(), keeps_columns=keeps)
    return [row for batch in range(len(rows.sizes)) for row in rows.read(batch, columns).to_pylist()]


def kept(store: Store) -> list[Path]:
    return sorted((store.root / "cache" / "columns").rglob("*.arrays"))


def test_columns_are_read_from_the_tables_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = read(store, keeps=False)
    assert kept(store) == []
    assert [row["width_px"] for row in plain] == [0, 0, 1, 2, 10, 10, 11, 12]
    assert read(store, keeps=True) == plain
    assert {path.parent.name for path in kept(store)} == {*COLUMNS, MEDIA_ROWS}
    monkeypatch.setattr(media_rows, "_matching", lambda *_: pytest.fail("it is known which medium is whose"))
    assert [row["height_px"] for row in read(store, keeps=True, columns=["height_px"])] == [None] * 8
    monkeypatch.setattr(PoolRows, "_read_part", lambda *_: pytest.fail("the tables are read again"))
    assert read(store, keeps=True) == plain
    assert read(store, keeps=False, columns=COLUMNS[::-1]) == [dict(reversed(row.items())) for row in plain]


def test_wide_columns_are_not_kept_twice(store: Store) -> None:
    assert read(store, keeps=True, columns=["text"]) == [{"text": "x" * 100}] * 8
    assert kept(store) == []


def test_another_outcome_under_the_same_name_is_read_anew(store: Store) -> None:
    read(store, keeps=True)
    part_path(store.root / "tables" / "media", 1, KEY).unlink()
    write_media(store.root, 1, "failed", "second")
    assert [row["status"] for row in read(store, keeps=True)] == ["ok"] * 4 + ["failed"] * 4


def test_a_damaged_file_is_made_again(store: Store) -> None:
    plain = read(store, keeps=True)
    (rows,) = (path for path in kept(store) if path.parent.name == MEDIA_ROWS)
    for path, at in zip(kept(store), (0, 8, 40, -2, None, 100), strict=True):
        whole = path.read_bytes()
        if path == rows:  # asked for where a column of media is not there
            for column in kept(store):
                column.unlink() if column.parent.name == "width_px" else None
        damaged = bytearray(whole if at is not None else b"")
        if at is not None:
            damaged[at] ^= 255
        path.write_bytes(damaged)
        assert read(store, keeps=False) == plain
        assert read(store, keeps=True) == plain
        assert path.read_bytes() == whole


def test_arrays_are_pages_of_a_file_the_next_time(store: Store) -> None:
    found = [np.arange(3, dtype=np.int32)]

    def ask(keeps: bool) -> np.ndarray:
        rows = PoolRows(store, store.state(), keeps)
        made = rows.remembered_arrays("groups", "one", ["status"], lambda: {"a": found.pop()})
        assert rows.remembered_arrays("groups", "one", ["status"], dict)["a"] is made["a"]
        return made["a"]

    assert ask(keeps=True).tolist() == ask(keeps=True).tolist() == ask(keeps=False).tolist() == [0, 1, 2]
    assert not ask(keeps=False).flags.writeable
    (path,) = kept(store)
    path.write_bytes(path.read_bytes()[:-1])
    found.append(np.array([7]))
    assert ask(keeps=True).tolist() == [7]


def test_what_was_used_last_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read(store, keeps=True)
    for path in kept(store):
        os.utime(path, ns=(1, 1))
    read(store, keeps=True, columns=["clip_score", "status"])
    recent = [path for path in kept(store) if path.parent.name in ("clip_score", "status")]
    cache = ColumnCache(store.root / "cache" / "columns", writes=True)
    assert cache.tidy(8) == 0
    monkeypatch.setattr(column_cache, "MIN_FOLDER_BYTES", sum(path.stat().st_size for path in recent))
    assert ColumnCache(store.root / "cache" / "columns", writes=False).tidy(1) == 0
    assert cache.tidy(1) == len(COLUMNS) - 1
    assert kept(store) == recent
    monkeypatch.setattr(column_cache, "MIN_FOLDER_BYTES", 0)
    assert cache.tidy(10**6) == 0
    assert cache.tidy(0) == 2
    assert read(store, keeps=True) == read(store, keeps=False)


def test_selections_at_the_same_time_do_not_harm_each_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = read(store, keeps=False)
    monkeypatch.setattr(column_cache, "MIN_FOLDER_BYTES", 0)
    cache = ColumnCache(store.root / "cache" / "columns", writes=True)

    def work(n: int) -> bool:
        if n % 3 == 0:
            cache.tidy(0)
        return read(store, keeps=n % 3 != 2) == plain

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(60)))


def test_findings_are_kept_for_the_same_rows_in_the_same_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def find() -> pa.Table:
        calls.append(len(calls))
        return pa.table({"batch": [0], "row": [len(calls)]})

    def ask(key: object, keeps: bool = True, columns: tuple[str, ...] = ("status",)) -> int:
        found = PoolRows(store, store.state(), keeps).remembered("rejected", key, columns, find)
        return int(found.column("row")[0].as_py())

    assert [ask("one"), ask("one"), ask("two"), ask("one", keeps=False)] == [1, 1, 2, 1]
    assert [ask("none", keeps=False), ask("none", keeps=False)] == [3, 4]
    assert ask("one", columns=("status", "clip_score")) == 5
    monkeypatch.setattr(pool_rows, "_batches", lambda sizes: (range(i, i + 1) for i in range(len(sizes))))
    assert ask("one") == 6
    part_path(store.root / "tables" / "media", 1, KEY).unlink()
    write_media(store.root, 1, "failed", "second")
    assert ask("one") == 7
