"""Columns of the pool's rows, laid out for selection: one file for each batch and column, at the level of the texts.

A re-threshold reads a few columns of the whole pool. In the tables they lie in as many files as the pool has parts, and
those of media in small row groups beside the bytes. What a policy has read once is kept here, so the next one reads it
at once. The files are named after what they were made from; the folder can be deleted at any time.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.table import FOOTER_KEY, find_part, part_path, read_part, write_part

MAX_BYTES_A_ROW = 40
"""Wider columns (captions, lists of many ids) are not kept twice. A uid has 36."""


class ColumnCache:
    """The files of one store. With `writes` what is not there yet is added."""

    def __init__(self, folder: Path, writes: bool) -> None:
        self.folder, self.writes = folder, writes

    def get(self, name: str, batch: int, key: str) -> pa.ChunkedArray | None:
        """A column of a batch, or None where it is not kept."""
        path = part_path(self.folder / name, batch, key)
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                footer = json.loads((file.metadata.metadata or {}).get(FOOTER_KEY, b"{}"))
                return file.read(use_threads=False).column(0) if footer.get("key") == key else None
        except FileNotFoundError:
            return None

    def table(self, name: str, key: str) -> pa.Table | None:
        """A table about the whole pool, or None where it is not kept."""
        part = find_part(self.folder / name, 0, key)
        return read_part(part.path).replace_schema_metadata(None) if part is not None else None

    def put_table(self, name: str, key: str, table: pa.Table) -> None:
        """Keep a table about the whole pool."""
        if self.writes:
            unique = [field.name for field in table.schema if pa.types.is_string(field.type)]
            write_part(self.folder / name, 0, key, table, unique=unique)

    def put(self, name: str, batch: int, key: str, column: pa.ChunkedArray) -> None:
        """Keep a column, unless it is wide."""
        if self.writes and column.nbytes <= MAX_BYTES_A_ROW * len(column):
            unique = [name] if _varies(column) else []
            write_part(self.folder / name, batch, key, pa.table({name: column.combine_chunks()}), unique=unique)


def _varies(column: pa.ChunkedArray) -> bool:
    """Whether its values hardly repeat: uids and measured numbers."""
    is_long_text = pa.types.is_string(column.type) and column.nbytes > 30 * len(column)
    return bool(is_long_text or pa.types.is_floating(column.type))
