"""Digests of rows: the same rows give the same digest however they lie in memory, other rows another."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.rows_digest import rows_digest

SCHEMA = pa.schema(
    [("s", pa.string()), ("l", pa.list_(pa.string())), ("i", pa.int32()), ("f", pa.float64()), ("b", pa.bool_())]
)
WORD = st.none() | st.text("ab", max_size=2)
ROW = st.tuples(
    WORD,
    st.none() | st.lists(WORD, max_size=2),
    st.none() | st.integers(0, 2),
    st.sampled_from([None, 0.0, 1.5]),
    st.none() | st.booleans(),
)
ROWS = st.lists(ROW, max_size=5)


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


@given(ROWS, ROWS)
def test_it_tells_rows_apart(one: list[tuple[object, ...]], two: list[tuple[object, ...]]) -> None:
    assert (rows_digest(table(one)) == rows_digest(table(two))) == (one == two)


@given(ROWS, ROWS, st.integers(0, 5))
def test_memory_makes_no_difference(rows: list[tuple[object, ...]], others: list[tuple[object, ...]], cut: int) -> None:
    whole = table(rows)
    sliced = table(others + rows + others).slice(len(others), len(rows))
    chunked = pa.concat_tables([table(rows[:cut]), table(rows[cut:])])
    assert rows_digest(whole) == rows_digest(sliced) == rows_digest(chunked)


def test_names_and_types_count() -> None:
    digests = [
        rows_digest(pa.table(each)) for each in ({"a": [1]}, {"b": [1]}, {"a": [1.0]}, {"a": ["1"]}, {"a": [[1]]})
    ]
    assert len(set(digests)) == len(digests)
    with pytest.raises(TypeError, match="struct"):
        rows_digest(pa.table({"a": [{"b": 1}]}))
