"""curation/byte_ranges.py: every value lies where the index says, in files that stay ordinary Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.byte_ranges import byte_ranges
from curation.table import write_parquet

SCHEMA = pa.schema([("uid", pa.string()), ("image", pa.binary())])


def check(path: Path, values: list[bytes | None]) -> None:
    raw = path.read_bytes()
    found = byte_ranges(path, "image").to_pylist()
    assert [None if r["length"] < 0 else raw[r["start"] : r["start"] + r["length"]] for r in found] == values
    assert pq.read_table(path).column("image").to_pylist() == values


@settings(max_examples=30, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=300), max_size=60), st.integers(1, 25))
def test_every_value_lies_where_the_index_says(
    tmp_path_factory: pytest.TempPathFactory, values: list[bytes | None], group: int
) -> None:
    path = tmp_path_factory.mktemp("r") / "f.parquet"
    table = pa.table([[str(n) for n in range(len(values))], values], schema=SCHEMA)
    write_parquet(path, table, {"any": 1}, plain=["image"], row_group_rows=group)
    check(path, values)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_of_both_versions_and_columns_that_are_never_null(tmp_path: Path, version: str) -> None:
    values = [bytes([n % 256]) * (n % 5000) for n in range(1500)]  # 3.7 MB: several pages
    for nullable in (True, False):
        schema = pa.schema([pa.field("image", pa.binary(), nullable=nullable)])
        path = tmp_path / f"{nullable}.parquet"
        pq.write_table(
            pa.table([values], schema=schema), path, compression="none", use_dictionary=False,
            data_page_version=version, row_group_size=700, data_page_size=300_000,
        )  # fmt: skip
        check(path, list(values))


def test_what_is_not_plain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    table = pa.table([["a"], [b"x"]], schema=SCHEMA)
    pq.write_table(table, path)
    with pytest.raises(ValueError, match="not stored plain"):
        byte_ranges(path, "image")
    with pytest.raises(ValueError, match="no top-level column 'picture'"):
        byte_ranges(path, "picture")
