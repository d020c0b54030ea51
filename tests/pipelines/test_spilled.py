"""Tables in nameless files hold the rows that went in, and leave nothing behind."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import column_cache, database, spilled
from pipelines.column_cache import ColumnCache
from pipelines.spilled import result_of, stream_of, table_of

SCHEMA = pa.schema([("number", pa.int64()), ("name", pa.string())])


def test_rows_of_several_tables(tmp_path: Path) -> None:
    pieces = [pa.table({"number": [n, None], "name": ["é", str(n)]}, schema=SCHEMA) for n in range(3)]
    found = table_of(stream_of(pieces, SCHEMA, tmp_path / "spill"))
    assert found.to_pylist() == pa.concat_tables(pieces).to_pylist()
    assert table_of(stream_of([], SCHEMA, None)).equals(SCHEMA.empty_table())
    assert list((tmp_path / "spill").iterdir()) == []


def test_results_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spilled, "_BATCH_ROWS", 1000)
    con = database.connect(threads=2)
    con.execute("create table t as select range as number from range(100000)")
    sql = "select number, 'n' || number as name from t where number % 7 = $rest order by number desc"
    found = result_of(con, sql, SCHEMA, None, {"rest": 3})
    assert found.column("number").to_pylist() == [n for n in reversed(range(100000)) if n % 7 == 3]
    assert found.column("name")[0].as_py() == "n99998"
    assert result_of(con, "select 1 as number, 'a' as name where false", SCHEMA, None).num_rows == 0


def test_a_large_table_is_kept_like_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"number": range(100), "name": [str(n) for n in range(100)]}, schema=SCHEMA)
    cache = ColumnCache(tmp_path, writes=True)
    cache.put_table("small", "a" * 64, table)
    monkeypatch.setattr(column_cache, "_LARGE_BYTES", 10)
    cache.put_table("large", "a" * 64, table)
    assert cache.table("small", "a" * 64) == cache.table("large", "a" * 64) == table
    (small, large) = sorted(path.read_bytes() for path in tmp_path.rglob("*.arrays"))
    assert small == large
