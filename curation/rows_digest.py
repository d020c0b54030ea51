"""A digest of rows: what parts of the pool and versions are named after."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def rows_digest(table: pa.Table) -> str:
    """SHA-256 (64 hex digits) of a table's columns and values in their order, however it lies in memory.

    Chunks, slices, what stands behind a null and the name of a list's items make no difference.
    """
    state = hashlib.sha256()
    for field, column in zip(table.schema, table.columns, strict=True):
        state.update(f"{field.name}\0{_kind(field.type)}\0{len(column)}\0".encode())
        if len(column):
            _add_values(state, pa.concat_arrays(column.chunks))
    return state.hexdigest()


def json_digest(table: pa.Table) -> str:
    """SHA-256 (64 hex digits) of a small table's rows, each as a line of JSON: what manifests hold of such tables."""
    state = hashlib.sha256()
    for row in table.to_pylist():
        state.update(json.dumps(row, sort_keys=True, default=repr).encode() + b"\n")
    return state.hexdigest()


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{each.name}: {_kind(each.type)}' for each in kind)}>"
    return f"list<{_kind(kind.value_type)}>" if pa.types.is_list(kind) else str(kind)


def _add_values(state: "hashlib._Hash", values: pa.Array) -> None:
    kind = values.type
    state.update(np.packbits(pc.is_valid(values).to_numpy(zero_copy_only=False)).data)
    known = values.drop_null()
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        whole = known.cast(pa.large_binary())
        ends = np.frombuffer(whole.buffers()[1], np.int64)[whole.offset : whole.offset + len(whole) + 1]
        state.update(np.diff(ends).data)
        if len(whole) and ends[-1] > ends[0]:
            state.update(memoryview(whole.buffers()[2])[ends[0] : ends[-1]])
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        state.update(pc.list_value_length(known).cast(pa.int32()).to_numpy().data)
        _add_values(state, known.flatten())
    elif pa.types.is_struct(kind):
        for field in known.flatten():
            _add_values(state, field)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        state.update(np.ascontiguousarray(known.to_numpy(zero_copy_only=False)).data)
    else:
        state.update(repr(known.to_pylist()).encode())
