"""What selections have read and found, kept for the next one: `cache/columns/` of a store.

A re-threshold reads a few columns of the whole pool. In the tables they lie in as many files as the pool has parts, and
those of media in small row groups beside the bytes. What a policy has read once is kept here, one file for each batch
and column, so the next one reads it at once; and so is what a rule over many rows came down to.

They are kept as they lie in memory, so that reading one is mapping its file. The files are named after what they were
made from and say whether they are whole, so one that fits is right. Those used least recently go when all
together are larger than the pool warrants. The folder can be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation import array_file
from curation.table import TEMPORARY_PREFIX, part_path
from pipelines.spilled import stream_of, table_of

MAX_BYTES_A_ROW = 40
"""Wider columns (captions, lists of many ids) are not kept twice. A uid has 36."""
MAX_FOLDER_BYTES_A_ROW = 400
"""Of all files together, for each row of the pool: some sixty columns of numbers and a few of uids."""
MIN_FOLDER_BYTES = 2**28
"""That may stay however small the pool is."""
_LARGE_BYTES = 2**26
"""Of a table that is written to a file before it is written to its own, so that it is not twice in memory."""
SUFFIX = ".arrays"
_KEY, _TABLE = "key", "table"


class ColumnCache:
    """The files of one store. With `writes` what is not there yet is added, and what is too much removed.

    Safe beside others that read, write or tidy the same folder: a file appears whole, and one that goes is missed.
    """

    def __init__(self, folder: Path, writes: bool) -> None:
        self.folder, self.writes = folder, writes

    def get(self, name: str, batch: int, key: str) -> pa.ChunkedArray | None:
        """A column of a batch, or None where it is not kept."""
        table = self._table(name, batch, key)
        return table.column(0) if table is not None else None

    def put(self, name: str, batch: int, key: str, column: pa.ChunkedArray) -> None:
        """Keep a column, unless it is wide."""
        if column.nbytes <= MAX_BYTES_A_ROW * len(column):
            self._put_table(name, batch, key, pa.table({name: column.combine_chunks()}))

    def table(self, name: str, key: str) -> pa.Table | None:
        """A table about the whole pool, or None where it is not kept."""
        return self._table(name, 0, key)

    def put_table(self, name: str, key: str, table: pa.Table) -> None:
        """Keep a table about the whole pool."""
        self._put_table(name, 0, key, table)

    def arrays(self, name: str, key: str, batch: int = 0) -> Mapping[str, np.ndarray] | None:
        """Named arrays, as pages of their file, or None where they are not kept."""
        path = self._path(name, batch, key)
        try:
            found = array_file.load(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):  # damaged: what it was made from is still there
            if self.writes:
                path.unlink(missing_ok=True)
            return None
        if found.pop(_KEY).tobytes() != key.encode():
            return None
        if self.writes:
            with suppress(FileNotFoundError):
                os.utime(path)
        return found

    def put_arrays(self, name: str, key: str, arrays: Mapping[str, np.ndarray], batch: int = 0) -> None:
        """Keep named arrays."""
        if self.writes:
            whole = {**arrays, _KEY: np.frombuffer(key.encode(), np.uint8)}
            with suppress(FileNotFoundError):  # another's `tidy` may have taken it already
                array_file.save(self._path(name, batch, key), whole, durable=False)

    def _path(self, name: str, batch: int, key: str) -> Path:
        return part_path(self.folder / name, batch, key).with_suffix(SUFFIX)

    def _table(self, name: str, batch: int, key: str) -> pa.Table | None:
        found = self.arrays(name, key, batch)
        return table_of(found[_TABLE]) if found is not None else None

    def _put_table(self, name: str, batch: int, key: str, table: pa.Table) -> None:
        if self.writes and table.nbytes > _LARGE_BYTES:
            self.put_arrays(name, key, {_TABLE: stream_of([table], table.schema, self.folder)}, batch)
        elif self.writes:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
            self.put_arrays(name, key, {_TABLE: np.frombuffer(sink.getvalue(), np.uint8)}, batch)

    def tidy(self, num_rows: int) -> int:
        """Delete what was used least recently until the rest is small enough for so many rows; returns how many."""
        if not self.writes:
            return 0
        found = []
        for path in self.folder.rglob("*.*"):
            if not path.name.startswith(TEMPORARY_PREFIX):  # those are being written, or the janitor's
                with suppress(FileNotFoundError):
                    facts = path.stat()
                    found.append((facts.st_mtime_ns, path, facts.st_size))
        too_much = sum(size for _, _, size in found) - max(MIN_FOLDER_BYTES, MAX_FOLDER_BYTES_A_ROW * num_rows)
        deleted = 0
        for _, path, size in sorted(found):
            if too_much <= 0:
                break
            path.unlink(missing_ok=True)
            too_much, deleted = too_much - size, deleted + 1
        return deleted
