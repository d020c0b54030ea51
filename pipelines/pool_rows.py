"""The pool's rows for selection: one row for each text with the columns of its medium and of all signals, in batches.

The tables of a pool are cut alike and a signal's part holds the rows of its base table in their order, so columns are
put side by side by position: no hash join, and memory for a few batches only, however large the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.schema import MEDIA, SEGMENTS, TEXTS, UNSEEN
from curation.step import digest
from curation.table import Part, open_part
from pipelines.column_cache import ColumnCache
from pipelines.database import readable
from pipelines.media_rows import MEDIA_ROWS, OWNERS, MediaRows
from pipelines.store import State, Store

BATCH_ROWS = 100_000
"""Texts of a batch, a little more or less: whole parts of the pool. A part of the decisions holds one batch."""

Arrays = Mapping[str, np.ndarray]


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

    def read(self, batch: int, columns: Sequence[str], keep: bool = True) -> pa.Table:
        """These columns of one batch, in this order. `keep`: whether they may be wanted again soon."""

    def remembered(self, name: str, key: object, columns: Sequence[str], find: Callable[[], pa.Table]) -> pa.Table:
        """What `find` gives, or gave before for the same `key`, rows and values of these columns."""

    def remembered_arrays(self, name: str, key: object, columns: Sequence[str], find: Callable[[], Arrays]) -> Arrays:
        """The same for named arrays."""


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
        self._media_rows: dict[int, MediaRows] = {}
        self._arrays: dict[str, Arrays] = {}
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

    def read(self, batch: int, columns: Sequence[str], keep: bool = True) -> pa.Table:
        keys = {name: self._key(batch, name) for name in columns}
        found = {name: self._cache.get(name, batch, key) for name, key in keys.items()}
        missing = [name for name, column in found.items() if column is None]
        if missing:
            with self._media_rows_kept(batch, missing):
                read = pa.concat_tables([self._read_part(part, missing) for part in self._batches[batch]])
            for name in missing:
                found[name] = read.column(name)
                if keep:
                    self._cache.put(name, batch, keys[name], read.column(name))
        return pa.table({name: found[name] for name in columns})

    def remembered(self, name: str, key: object, columns: Sequence[str], find: Callable[[], pa.Table]) -> pa.Table:
        whole = self._whole("table", key, columns)
        found = self._cache.table(name, whole)
        if found is None:
            made = find()
            self._cache.put_table(name, whole, made)
            kept = self._cache.table(name, whole)
            found = made if kept is None else kept
        return found

    def remembered_arrays(self, name: str, key: object, columns: Sequence[str], find: Callable[[], Arrays]) -> Arrays:
        whole = self._whole("arrays", key, columns)
        found = self._arrays.get(whole) or self._cache.arrays(name, whole)
        if found is None:
            made = find()
            self._cache.put_arrays(name, whole, made)
            found = self._cache.arrays(name, whole) or made  # of its file only what is looked at is in memory
        self._arrays[whole] = found  # a sweep asks for it in every cell, and keeps no files
        return found

    def _whole(self, kind: str, key: object, columns: Sequence[str]) -> str:
        """Digest of what something about all rows comes from."""
        tables = {self.provider[column] for column in columns if column in self.provider} | {"texts", "media"}
        parts = range(len(self.texts))
        return digest(kind, key, list(self.sizes), {table: self._identities(table, parts) for table in sorted(tables)})

    def tidy_cache(self) -> None:
        """Keep what selections have left to the size that this pool warrants."""
        self._cache.tidy(sum(self.sizes))

    @contextmanager
    def _media_rows_kept(self, batch: int, columns: Sequence[str]) -> Iterator[None]:
        """Which medium is whose is looked up where it was kept, and kept where it is found out."""
        parts = self._batches[batch]
        if all(self._levels[self.provider[name]] != "media" or parts[-1] in self._media_rows for name in columns):
            yield
            return
        identities = {table: self._identities(table, parts) for table in OWNERS}
        key = digest("media rows", identities)
        found = self._cache.arrays(MEDIA_ROWS, key, batch)
        if found is not None:
            self._media_rows |= {part: MediaRows.read(found, place) for place, part in enumerate(parts)}
        yield
        if found is None:
            each = [self._media_rows[part].arrays(place) for place, part in enumerate(parts)]
            self._cache.put_arrays(MEDIA_ROWS, key, {name: a for arrays in each for name, a in arrays.items()}, batch)

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
        asks_media = any(self._levels[table] == "media" for table in by_table)
        owners = OWNERS if asks_media and part not in self._media_rows else {}  # in one go with the others
        read = {
            table: self._columns(table, part, [*names, *owners.get(table, ())]) for table, names in by_table.items()
        }
        if asks_media:
            num_media, rows = self._rows_of_media(part, read)
        found: dict[str, pa.ChunkedArray] = {}
        for table, names in by_table.items():
            of_media, rows_there = self._levels[table] == "media", read[table].select(names)
            num_rows = num_media if of_media else self.texts[part].num_rows
            if rows_there.num_rows != num_rows:
                raise Misaligned(
                    f"{self._files[table][part]} has {rows_there.num_rows} rows, its part of the pool {num_rows}"
                )
            if of_media and rows is not None:
                rows_there = rows_there.take(rows)
            found |= {name: rows_there.column(name) for name in names}
        return pa.table({name: found[name] for name in columns})

    def _columns(self, table: str, part: int, names: Sequence[str]) -> pa.Table:
        """Columns of one file, null where it lacks one, of types that the database takes."""
        names = list(dict.fromkeys(names))
        with pq.ParquetFile(self._files[table][part], page_checksum_verification=True, memory_map=True) as file:
            there = set(file.schema_arrow.names)
            read = file.read(columns=[name for name in names if name in there], use_threads=False)
            num_rows = file.metadata.num_rows
        columns = {}
        for name in names:
            kind = readable(self.types[name])
            column = read.column(name) if name in there else pa.nulls(num_rows, kind)
            columns[name] = column if column.type == kind else column.cast(kind)
        return pa.table(columns)

    def _rows_of_media(self, part: int, read: Mapping[str, pa.Table]) -> tuple[int, pa.Array | None]:
        """Number of media, and for each text the row of its sample's primary medium, null where there is none.

        None in place of the rows where texts and media lie side by side already. `read`: tables that are there already.
        """
        if part not in self._media_rows:
            media, texts = (
                read[table] if table in read else self._columns(table, part, names) for table, names in OWNERS.items()
            )
            self._media_rows[part] = MediaRows.of(texts, media)
        found = self._media_rows[part]
        return found.num_media, found.rows()


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
