"""Digests of rows: the same rows give the same digest however they lie in memory, other rows another."""

from datetime import date

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.rows_digest import rows_digest

SCHEMA = pa.schema(
    [
        ("s", pa.string()), ("l", pa.list_(pa.string())), ("i", pa.int32()), ("f", pa.float16()), ("b", pa.bool_()),
        ("t", pa.list_(pa.struct([("a", pa.string()), ("n", pa.int8())]))), ("v", pa.list_(pa.float16(), 2)),
        ("d", pa.date32()),
    ]
)  # fmt: skip
WORD = st.none() | st.text("ab", max_size=2)
STRUCT = st.fixed_dictionaries({"a": WORD, "n": st.sampled_from([None, 0, 1])})
ROW = st.tuples(
    WORD,
    st.none() | st.lists(WORD, max_size=2),
    st.none() | st.integers(0, 2),
    st.sampled_from([None, np.float16(0), np.float16(1.5)]),
    st.none() | st.booleans(),
    st.none()
    | st.lists(st.none() | st.fixed_dictionaries({"a": WORD, "n": st.sampled_from([None, 0, 1])}), max_size=2),
    st.none() | st.lists(st.sampled_from([np.float16(0), np.float16(2)]), min_size=2, max_size=2),
    st.none() | st.dates(date(2000, 1, 1), date(2000, 1, 2)),
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
