"""Tables whose columns are pages of a nameless file: what is too much for the memory, until it is kept or used."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines import database

_BATCH_ROWS = 100_000
"""Rows of a result that are in memory at a time."""


def stream_of(tables: Iterable[pa.Table], schema: pa.Schema, folder: Path | None) -> np.ndarray:
    """uint8: the rows of all tables as one stream of Arrow's format, in a file that lives as long as it does.

    `folder`: where the room is taken; None: where temporary files are.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        with pa.ipc.new_stream(file, schema) as stream:
            for table in tables:
                stream.write_table(table.cast(schema))
        file.flush()
        return np.memmap(file, np.uint8, "r")


def result_of(
    con: database.Connection,
    sql: str,
    schema: pa.Schema,
    folder: Path | None,
    parameters: Mapping[str, object] | None = None,
) -> pa.Table:
    """The rows of a query, in such a file."""
    return table_of(stream_of(database.batches(con, sql, _BATCH_ROWS, parameters), schema, folder))


def table_of(stream: np.ndarray) -> pa.Table:
    """The rows of a stream; their columns are its bytes."""
    return pa.ipc.open_stream(pa.py_buffer(stream)).read_all()
