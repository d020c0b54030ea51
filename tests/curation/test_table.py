"""Write-once parts: whole or absent, first writer wins, every flipped bit found."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.table import (
    find_part,
    open_part,
    part_path,
    publishing,
    read_part,
    remove_temporaries,
    replace_text,
    replacing,
    write_part,
)
from tests.stores import environment

KEY = "ab" * 32
OTHER = KEY[:16] + "cd" * 24


def table(rows: int = 3000) -> pa.Table:
    return pa.table(
        {
            "uid": [f"u{i:06d}" for i in range(rows)],
            "image": pa.array([bytes([i % 251]) * 300 for i in range(rows)], pa.binary()),
            "texts": pa.array([[{"text": f"t{i}"}] for i in range(rows)], pa.list_(pa.struct([("text", pa.string())]))),
        }
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    part = write_part(tmp_path, 7, KEY, table(), stats={"n": 1}, plain=["image"])
    assert (part.index, part.key, part.identity, part.num_rows, part.stats) == (7, KEY, KEY, 3000, {"n": 1})
    assert read_part(part.path).replace_schema_metadata(None).equals(table())
    assert find_part(tmp_path, 7, KEY) == part
    assert find_part(tmp_path, 8, KEY) is None


def test_layout(tmp_path: Path) -> None:
    metadata = pq.read_metadata(write_part(tmp_path, 0, KEY, table(), plain=["image"]).path)
    assert metadata.num_row_groups == 3
    columns = {metadata.row_group(0).column(i).path_in_schema: metadata.row_group(0).column(i) for i in range(3)}
    assert columns["image"].compression == "UNCOMPRESSED"
    assert "RLE_DICTIONARY" not in columns["image"].encodings
    assert columns["texts.list.element.text"].compression == "ZSTD"


def test_first_writer_wins_and_bytes_are_the_same_in_every_process(tmp_path: Path) -> None:
    first = write_part(tmp_path / "a", 0, KEY, table())
    before = first.path.read_bytes()
    write_part(tmp_path / "a", 0, KEY, table(10))
    assert first.path.read_bytes() == before
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=write_part, args=(tmp_path / "b", 0, KEY, table()))
    process.start()
    process.join(60)
    assert part_path(tmp_path / "b", 0, KEY).read_bytes() == before


def test_two_keys_with_the_same_first_digits_are_told_apart(tmp_path: Path) -> None:
    write_part(tmp_path, 0, KEY, table(1))
    with pytest.raises(ValueError, match="two keys share 16 digits"):
        find_part(tmp_path, 0, OTHER)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(table(1), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="not a part of a tamis table"):
        open_part(tmp_path / "x.parquet")


def test_flipped_bits_are_found(tmp_path: Path) -> None:
    part = write_part(tmp_path, 0, KEY, table(200), plain=["image"])
    whole = part.path.read_bytes()
    found = 0
    positions = range(4, len(whole) - 2000, max(1, (len(whole) - 2000) // 120))
    for position in positions:
        part.path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        try:
            same = read_part(part.path).replace_schema_metadata(None).equals(table(200))
        except (pa.ArrowException, OSError):
            found += 1
        else:
            assert same, f"a flipped bit at {position} went unnoticed and changed the data"
    assert found > 0.9 * len(positions)


def _write_slowly(path: Path, started: Path) -> None:
    with publishing(path) as temporary, temporary.open("wb") as file:
        file.write(b"half")
        file.flush()
        started.touch()
        time.sleep(60)


def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_write_slowly, args=(tmp_path / "part", tmp_path / "started")
    )
    process.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(10)
    assert not (tmp_path / "part").exists()
    assert remove_temporaries(tmp_path) == 1
    assert remove_temporaries(tmp_path) == 0


def test_an_error_while_writing_publishes_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with publishing(tmp_path / "part") as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_hard_links_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    with pytest.raises(OSError, match=r"has no hard links.*part\.parquet") as refused:
        write_part(tmp_path / "part.parquet", 0, KEY, table(3))
    assert not isinstance(refused.value, PermissionError)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_error_while_replacing_keeps_the_old_file(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            assert (tmp_path / "a").read_text() == "old"
            raise RuntimeError

    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_replace_text(tmp_path: Path) -> None:
    replace_text(tmp_path / "a", "one")
    replace_text(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two"
    assert len(list(tmp_path.iterdir())) == 1


def test_arrays_of_lists_do_not_import_pandas() -> None:
    """Pandas is here, through img2dataset, and stays usable."""
    code = """
import sys
import pyarrow as pa
import curation.table
pa.array([1, None])
assert "pandas" not in sys.modules
import pandas
assert pa.table({"a": [1, 2]}).to_pandas().a.sum() == 3
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
