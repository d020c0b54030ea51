"""The pool's rows for selection: one row for each text with the columns of its medium and of all signals, in batches.

The tables of a pool are cut alike and a signal's part holds the rows of its base table in their order, so columns are
put side by side by position: no hash join, and memory for a few batches only, however large the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.schema import MEDIA, SEGMENTS, TEXTS, UNSEEN
from curation.step import digest
from curation.table import Part, open_part
from pipelines.column_cache import ColumnCache
from pipelines.database import readable
from pipelines.store import State, Store

BATCH_ROWS = 100_000
"""Texts of a batch, a little more or less: whole parts of the pool. A part of the decisions holds one batch."""


class Misaligned(RuntimeError):
    """Tables of one pool whose parts do not hold the same rows."""


class Rows(Protocol):
    """Rows in batches, each batch a table whose rows have a fixed order."""

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Type of every column that there is."""

    @property
    def sizes(self) -> Sequence[int]:
        """Number of rows of each batch."""

    def read(self, batch: int, columns: Sequence[str]) -> pa.Table:
        """These columns of one batch, in this order."""

    def remembered(self, name: str, key: object, columns: Sequence[str], find: Callable[[], pa.Table]) -> pa.Table:
        """What `find` gives, or gave before for the same `key`, rows and values of these columns."""


@dataclass(frozen=True)
class TableRows:
    """Rows of a table in memory."""

    table: pa.Table
    batch_rows: int = BATCH_ROWS

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        return {field.name: field.type for field in self.table.schema}

    @property
    def sizes(self) -> Sequence[int]:
        starts = range(0, self.table.num_rows, self.batch_rows)
        return [min(self.batch_rows, self.table.num_rows - start) for start in starts]

    def read(self, batch: int, columns: Sequence[str]) -> pa.Table:
        return self.table.select(list(columns)).slice(batch * self.batch_rows, self.batch_rows)

    def remembered(self, name: str, key: object, columns: Sequence[str], find: Callable[[], pa.Table]) -> pa.Table:
        del name, key, columns  # nothing outlives the table
        return find()


class PoolRows:
    """Rows of a store's pool. Raises Misaligned where a table lacks parts (something was not run yet)."""

    def __init__(self, store: Store, state: State, keeps_columns: bool = False) -> None:
        """`keeps_columns`: whether columns that are read are kept for the next time (`ColumnCache`)."""
        self._cache = ColumnCache(store.root / "cache" / "columns", keeps_columns)
        footers = {path: pq.read_metadata(path) for path in store.texts_files(state)}
        self.texts = [open_part(path, footer) for path, footer in footers.items()]
        self._text_schemas = [pa.schema(list(footer.schema.to_arrow_schema())) for footer in footers.values()]
        self._files = {"texts": [part.path for part in self.texts], "media": store.files(state, "media")}
        self._files |= {table: store.files(state, f"signal_{table}") for table in state.signals}
        self._of_segments = state.tables.get("sources")
        self._levels = {"texts": "text", "media": "media", **state.signals}
        for table, files in self._files.items():
            if len(files) != len(self.texts):
                raise Misaligned(
                    f"{table} has {len(files)} parts and the pool {len(self.texts)}: `tamis run` makes those that are "
                    "missing"
                )
        self._media_rows: dict[int, tuple[int, np.ndarray | None]] = {}
        self._batches = list(_batches([part.num_rows for part in self.texts]))

    @cached_property
    def provider(self) -> dict[str, str]:
        """Column -> table that holds it."""
        return {name: table for table, columns in self._columns_of.items() for name in columns}

    @cached_property
    def types(self) -> Mapping[str, pa.DataType]:
        return {name: kind for columns in self._columns_of.values() for name, kind in columns.items()}

    @cached_property
    def _columns_of(self) -> dict[str, dict[str, pa.DataType]]:
        """Table -> its columns; link tables of different sources may add different ones to the texts."""
        schemas = {"texts": pa.unify_schemas([TEXTS, *self._text_schemas])}
        media = MEDIA if self._of_segments is None else SEGMENTS
        schemas |= {
            "media": pa.schema([field for field in media if field.name not in ("sample_uid", "bytes", *UNSEEN)])
        }
        signals = {table: files[0] for table, files in self._files.items() if table not in schemas and files}
        for table, path in signals.items():
            left_out = ("text_uid", "media_uid", "reason")
            schemas[table] = pa.schema([field for field in pq.read_schema(path) if field.name not in left_out])
        return {table: {field.name: field.type for field in schema} for table, schema in schemas.items()}

    @property
    def sizes(self) -> Sequence[int]:
        return [sum(self.texts[part].num_rows for part in parts) for parts in self._batches]

    def parts(self, batch: int) -> range:
        """Positions of the parts of the pool that make up a batch."""
        return self._batches[batch]

    @cached_property
    def media(self) -> list[Part]:
        """The parts of `media`."""
        return [open_part(path) for path in self._files["media"]]

    def read(self, batch: int, columns: Sequence[str]) -> pa.Table:
        keys = {name: self._key(batch, name) for name in columns}
        found = {name: self._cache.get(name, batch, key) for name, key in keys.items()}
        missing = [name for name, column in found.items() if column is None]
        if missing:
            read = pa.concat_tables([self._read_part(part, missing) for part in self._batches[batch]])
            for name in missing:
                found[name] = read.column(name)
                self._cache.put(name, batch, keys[name], read.column(name))
        return pa.table({name: found[name] for name in columns})

    def remembered(self, name: str, key: object, columns: Sequence[str], find: Callable[[], pa.Table]) -> pa.Table:
        tables = {self.provider[column] for column in columns if column in self.provider} | {"texts", "media"}
        parts = range(len(self.texts))
        whole = digest(
            "table", key, list(self.sizes), {table: self._identities(table, parts) for table in sorted(tables)}
        )
        found = self._cache.table(name, whole)
        if found is None:
            found = find()
            self._cache.put_table(name, whole, found)
        return found

    def tidy_cache(self) -> None:
        """Keep what selections have left to the size that this pool warrants."""
        self._cache.tidy(sum(self.sizes))

    def _key(self, batch: int, name: str) -> str:
        """Digest of what a column of a batch comes from, and of its type."""
        table = self.provider[name]
        tables = {table, "texts", "media"} if self._levels[table] == "media" else {table}
        parts = self._batches[batch]
        return digest(
            "column", name, str(self.types[name]), {each: self._identities(each, parts) for each in sorted(tables)}
        )

    def _identities(self, table: str, parts: Sequence[int]) -> list[str]:
        """What stands for the content of these parts: of a signal their names, which hold a digest of their input; of
        texts and media, which came from outside, what is written in them."""
        if table in ("texts", "media"):
            of = self.texts if table == "texts" else self.media
            return [of[part].identity for part in parts]
        return [self._files[table][part].name for part in parts]

    def _read_part(self, part: int, columns: Sequence[str]) -> pa.Table:
        by_table: dict[str, list[str]] = {}
        for name in columns:
            by_table.setdefault(self.provider[name], []).append(name)
        found: dict[str, pa.ChunkedArray] = {}
        for table, names in by_table.items():
            read = self._columns(table, part, names)
            of_media = self._levels[table] == "media"
            num_rows, rows = self._rows_of_media(part) if of_media else (self.texts[part].num_rows, None)
            if read.num_rows != num_rows:
                raise Misaligned(
                    f"{self._files[table][part]} has {read.num_rows} rows, its part of the pool {num_rows}"
                )
            read = read if rows is None else read.take(pa.array(rows, mask=rows < 0))
            found |= {name: read.column(name) for name in names}
        return pa.table({name: found[name] for name in columns})

    def _columns(self, table: str, part: int, names: Sequence[str]) -> pa.Table:
        """Columns of one file, null where it lacks one, of types that the database takes."""
        with pq.ParquetFile(self._files[table][part], page_checksum_verification=True) as file:
            there = set(file.schema_arrow.names)
            read = file.read(columns=[name for name in names if name in there], use_threads=False)
            num_rows = file.metadata.num_rows
        columns = {}
        for name in names:
            kind = readable(self.types[name])
            column = read.column(name) if name in there else pa.nulls(num_rows, kind)
            columns[name] = column if column.type == kind else column.cast(kind)
        return pa.table(columns)

    def _rows_of_media(self, part: int) -> tuple[int, np.ndarray | None]:
        """Number of media, and for each text the row of its sample's primary medium (-1 where there is none).

        None in place of the rows where texts and media lie side by side already.
        """
        if part not in self._media_rows:
            media, texts = (
                self._plain("media", part, ["sample_uid", "role"]),
                self._plain("texts", part, ["sample_uid"]),
            )
            self._media_rows[part] = media.num_rows, _matching(texts.column(0), media.column(0), media.column(1))
        return self._media_rows[part]

    def _plain(self, table: str, part: int, names: list[str]) -> pa.Table:
        with pq.ParquetFile(self._files[table][part], page_checksum_verification=True) as file:
            return file.read(columns=names, use_threads=False)


def _matching(wanted: pa.ChunkedArray, samples: pa.ChunkedArray, roles: pa.ChunkedArray) -> np.ndarray | None:
    is_primary = pc.equal(roles, "primary").to_numpy()
    if is_primary.all() and wanted.equals(samples):
        return None
    primary: np.ndarray = np.append(np.flatnonzero(is_primary), -1).astype(np.int32)
    place = pc.fill_null(pc.index_in(wanted, samples.filter(pa.array(is_primary))), -1).to_numpy()
    found: np.ndarray = primary[place]
    return found


def _batches(sizes: Sequence[int], least: int = BATCH_ROWS) -> Iterator[range]:
    """Consecutive parts until a batch has at least `least` rows."""
    start, rows = 0, 0
    for part, size in enumerate(sizes):
        rows += size
        if rows >= least:
            yield range(start, part + 1)
            start, rows = part + 1, 0
    if start < len(sizes):
        yield range(start, len(sizes))
