"""What selections have read and found, kept for the next one: `cache/columns/` of a store.

A re-threshold reads a few columns of the whole pool. In the tables they lie in as many files as the pool has parts, and
those of media in small row groups beside the bytes. What a policy has read once is kept here, one file for each batch
and column, so the next one reads it at once; and so is what a rule over many rows came down to.

The files are named after what they were made from, so one that fits is right. Those used least recently go when all
together are larger than the pool warrants. The folder can be deleted at any time.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.table import FOOTER_KEY, TEMPORARY_PREFIX, part_path, write_part

MAX_BYTES_A_ROW = 40
"""Wider columns (captions, lists of many ids) are not kept twice. A uid has 36."""
MAX_FOLDER_BYTES_A_ROW = 400
"""Of all files together, for each row of the pool: some forty columns of numbers and uids, compressed."""
MIN_FOLDER_BYTES = 2**28
"""That may stay however small the pool is."""


class ColumnCache:
    """The files of one store. With `writes` what is not there yet is added, and what is too much removed.

    Safe beside others that read, write or tidy the same folder: a file appears whole, and one that goes is missed.
    """

    def __init__(self, folder: Path, writes: bool) -> None:
        self.folder, self.writes = folder, writes

    def get(self, name: str, batch: int, key: str) -> pa.ChunkedArray | None:
        """A column of a batch, or None where it is not kept."""
        table = self._read(part_path(self.folder / name, batch, key), key)
        return table.column(0) if table is not None else None

    def put(self, name: str, batch: int, key: str, column: pa.ChunkedArray) -> None:
        """Keep a column, unless it is wide."""
        if column.nbytes <= MAX_BYTES_A_ROW * len(column):
            self._write(name, batch, key, pa.table({name: column.combine_chunks()}), [name] if _varies(column) else [])

    def table(self, name: str, key: str) -> pa.Table | None:
        """A table about the whole pool, or None where it is not kept."""
        return self._read(part_path(self.folder / name, 0, key), key)

    def put_table(self, name: str, key: str, table: pa.Table) -> None:
        """Keep a table about the whole pool."""
        self._write(name, 0, key, table, [field.name for field in table.schema if pa.types.is_string(field.type)])

    def tidy(self, num_rows: int) -> int:
        """Delete what was used least recently until the rest is small enough for so many rows; returns how many."""
        if not self.writes:
            return 0
        found = []
        for path in self.folder.rglob("*.parquet"):
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

    def _write(self, name: str, batch: int, key: str, table: pa.Table, unique: list[str]) -> None:
        if self.writes:
            with suppress(FileNotFoundError):  # another's `tidy` may have taken it already
                write_part(self.folder / name, batch, key, table, unique=unique)

    def _read(self, path: Path, key: str) -> pa.Table | None:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                footer = json.loads((file.metadata.metadata or {}).get(FOOTER_KEY, b"{}"))
                if footer.get("key") != key:
                    return None
                found = file.read(use_threads=False).replace_schema_metadata(None)
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError, ValueError):
            # damaged: what it was made from is still there
            if self.writes:
                path.unlink(missing_ok=True)
            return None
        if self.writes:
            with suppress(FileNotFoundError):
                os.utime(path)
        return found


def _varies(column: pa.ChunkedArray) -> bool:
    """Whether its values hardly repeat: uids and measured numbers."""
    is_long_text = pa.types.is_string(column.type) and column.nbytes > 30 * len(column)
    return bool(is_long_text or pa.types.is_floating(column.type))
