"""Half precision through the database: DuckDB reads it as single precision, a version stores it as the signal did."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.store import State, Store


def stored_in_half(store: Store, state: State) -> frozenset[str]:
    """Columns of signals that are stored as half-precision numbers, or lists of them."""
    found = []
    for table in state.signals:
        for path in store.files(state, f"signal_{table}")[:1]:
            found += [field.name for field in pq.read_schema(path) if pa.types.is_float16(_number(field.type))]
    return frozenset(found)


def as_stored(rows: pa.Table, halves: frozenset[str], prefix: str) -> pa.Table:
    """`rows` with these columns (or, with the prefix, these of texts) in half precision again; no value changes."""
    for place, field in enumerate(rows.schema):
        if field.name.removeprefix(prefix) in halves and pa.types.is_float32(_number(field.type)):
            is_list = field.type != pa.float32()
            kind = pa.list_(pa.float16()) if is_list else pa.float16()
            rows = rows.set_column(place, field.name, rows.column(place).cast(kind))
    return rows


def _number(kind: pa.DataType) -> pa.DataType:
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return kind.value_type if is_list else kind
