"""A digest of rows: what the parts of the pool are named after."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def rows_digest(table: pa.Table) -> str:
    """SHA-256 (64 hex digits) of a table's columns and values in their order, however it lies in memory.

    Chunks, slices, what stands behind a null and the name of a list's items make no difference.

    Raises TypeError for a column that is not of strings, numbers, booleans or lists of these.
    """
    state = hashlib.sha256()
    for field, column in zip(table.schema, table.columns, strict=True):
        state.update(f"{field.name}\0{_kind(field.type)}\0{len(column)}\0".encode())
        if len(column):
            _add_values(state, pa.concat_arrays(column.chunks))
    return state.hexdigest()


def _kind(kind: pa.DataType) -> str:
    return f"list<{_kind(kind.value_type)}>" if pa.types.is_list(kind) else str(kind)


def _add_values(state: "hashlib._Hash", values: pa.Array) -> None:
    kind = values.type
    state.update(np.packbits(pc.is_valid(values).to_numpy(zero_copy_only=False)).data)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        whole = values.cast(pa.large_string()).fill_null("")
        ends = np.frombuffer(whole.buffers()[1], np.int64)[whole.offset : whole.offset + len(whole) + 1]
        state.update(np.diff(ends).data)
        if ends[-1] > ends[0]:
            state.update(memoryview(whole.buffers()[2])[ends[0] : ends[-1]])
    elif pa.types.is_list(kind):
        state.update(pc.fill_null(pc.list_value_length(values), 0).to_numpy().data)
        _add_values(state, values.flatten())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        nothing = False if pa.types.is_boolean(kind) else 0
        state.update(np.ascontiguousarray(values.fill_null(nothing).to_numpy(zero_copy_only=False)).data)
    else:
        raise TypeError(f"values of type {kind} have no digest here")
