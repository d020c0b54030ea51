"""Tables: folders of write-once Parquet parts. A part that exists under its final name is whole and durable.

A part's name is its shard number and the key of what it was made from, so resuming is a directory listing, a retry or a
duplicate attempt writes the same name, and a changed parameter, model or input is a new name. What a part holds never
changes, but for rows that a take-down empties (`pipelines.takedown`).
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 1000
"""Rows of a row group with media or vectors: fewer make DuckDB's scans 2-3 times slower, more make reading one row
costly (measured)."""
NARROW_ROW_GROUP_ROWS = 100_000
"""Rows of a row group with plain values only: a column of it is read five times as fast as of groups of 1,000
(measured), and one row is still cheap."""
PLAIN_BATCH_ROWS = 32
"""Rows after which a page of encoded media may end, which it does beyond 1 MB: a page is put together in memory and
verified as a whole."""
TEMPORARY_PREFIX = ".tmp-"
NAME_DIGITS = 16
"""Hex digits of the key in a file name: 64 bits, enough to tell the few thousand attempts at one shard apart."""
FOOTER_KEY = b"tamis"


def _do_without_pandas() -> None:
    """Keep pyarrow from importing pandas, where that is installed, at the first list that it makes an array of: 45 MB
    and 0.4 s in every worker for nothing. It asks once and remembers; `to_pandas` would find pandas all the same."""
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _NoPandas)
        pa.array([None])
        sys.meta_path.remove(_NoPandas)


class _NoPandas(MetaPathFinder):
    @classmethod
    def find_spec(cls, fullname: str, *_: object) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("no pandas for now")


_do_without_pandas()


class NoPart(ValueError):
    """A file that is no part of a table, or another one than its name says."""


@dataclass(frozen=True)
class Part:
    """One Parquet file of a table.

    `index` is the shard number, equal in all tables of a pool; `key` (64 hex digits) says what it was made from;
    `identity` is what later steps take for its content: the key, or, where the outcome is not a function of the inputs
    (a download), a digest of the outcome.
    """

    path: Path
    index: int
    key: str
    identity: str
    num_rows: int
    stats: dict[str, Any]


def part_path(folder: Path, index: int, key: str) -> Path:
    """Where the part of shard `index` made with `key` lies, whether or not it exists yet."""
    return folder / f"{index:05d}-{key[:NAME_DIGITS]}.parquet"


def find_part(folder: Path, index: int, key: str) -> Part | None:
    """The finished part, or None. Raises NoPart if another key was stored under the same abbreviated name."""
    path = part_path(folder, index, key)
    if not path.exists():
        return None
    part = open_part(path)
    if part.key != key:
        raise NoPart(f"{path} was made with the key {part.key}, not {key}: two keys share {NAME_DIGITS} digits")
    return part


def open_part(path: Path, metadata: pq.FileMetaData | None = None) -> Part:
    """Describe a finished part from its footer (`metadata`, where it has been read already).

    Raises NoPart where it is none of this project's.
    """
    metadata = metadata or pq.read_metadata(path)
    raw = (metadata.metadata or {}).get(FOOTER_KEY)
    if raw is None:
        raise NoPart(f"{path} is not a part of a tamis table: its footer has no {FOOTER_KEY.decode()!r} entry")
    footer = json.loads(raw)
    return Part(path, footer["index"], footer["key"], footer["identity"], metadata.num_rows, footer["stats"])


def write_part(
    folder: Path,
    index: int,
    key: str,
    table: pa.Table | pa.RecordBatchReader,
    *,
    identity: str | None = None,
    stats: Mapping[str, Any] | None = None,
    plain: Collection[str] = (),
    unique: Collection[str] = (),
    row_group_rows: int | None = None,
) -> Part:
    """Write, sync and publish one part; if a rival attempt has published it already, that one is kept.

    `table`: of a reader each batch becomes a row group, and no more than one is in memory.
    `plain` names the columns of encoded media: stored uncompressed and unencoded, which reads three times as fast and
    leaves each value as one byte range of the file. `unique` names columns of strings that hardly repeat: building a
    dictionary of them is work for nothing.
    """
    footer = {"index": index, "key": key, "identity": identity or key, "stats": dict(stats or {})}
    path = part_path(folder, index, key)
    if not path.exists():
        with publishing(path) as temporary:
            write_parquet(temporary, table, footer, plain, unique, row_group_rows)
    return open_part(path)


def write_parquet(
    path: Path,
    table: pa.Table | pa.RecordBatchReader,
    footer: Mapping[str, Any],
    plain: Collection[str] = (),
    unique: Collection[str] = (),
    row_group_rows: int | None = None,
) -> None:
    """Write `table` with the project's layout (zstd, page checksums, row groups by width) and `footer` as JSON."""
    metadata = {**(table.schema.metadata or {}), FOOTER_KEY: json.dumps(footer, sort_keys=True).encode()}
    leaves = [column.path for column in _leaves(table.schema)]
    with pq.ParquetWriter(
        path,
        table.schema.with_metadata(metadata),
        compression={leaf: "none" if leaf in plain else "zstd" for leaf in leaves},
        use_dictionary=[leaf for leaf in leaves if leaf not in plain and leaf.partition(".")[0] not in unique],
        column_encoding=dict.fromkeys(plain, "PLAIN") or None,
        write_page_checksum=True,
        write_statistics=[leaf for leaf in leaves if leaf not in plain],
        write_batch_size=PLAIN_BATCH_ROWS if plain else None,
        store_schema=True,
    ) as writer:
        rows = ROW_GROUP_ROWS if plain or _is_wide(table.schema) else NARROW_ROW_GROUP_ROWS
        for each in [table] if isinstance(table, pa.Table) else map(_as_table, table):
            writer.write_table(each.replace_schema_metadata(metadata), row_group_size=row_group_rows or rows)


def _as_table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _is_wide(schema: pa.Schema) -> bool:
    """Whether it has columns of vectors or of bytes."""
    kinds = (pa.types.is_fixed_size_list, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(is_kind(field.type) for field in schema for is_kind in kinds)


def _leaves(schema: pa.Schema) -> Iterator[Any]:
    """The leaf columns of `schema` as Parquet names them (`texts.list.element.text`)."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    parquet_schema = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return (parquet_schema.column(i) for i in range(len(parquet_schema)))


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a part, verifying its page checksums (without them nine of ten flipped bits go unnoticed)."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(columns=columns)


def read_groups(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """`read_part`, one row group at a time."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns)


def read_group(path: Path, group: int, columns: list[str] | None = None) -> pa.Table:
    """`read_part`, of one row group alone."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read_row_group(group, columns=columns, use_threads=False)


@contextmanager
def publishing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a private temporary path; on success sync it and link it in place if nothing is there yet.

    Not `durable`: without syncing, for what can be made again and says itself whether it is whole.

    A rename would overwrite a rival attempt's file unnoticed. A killed attempt leaves only a temporary file, for
    `remove_temporaries`.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        if durable:
            sync(temporary)
        with suppress(FileExistsError):
            _link(temporary, path)
        if durable:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise OSError(
            errno.EOPNOTSUPP,
            "the file system has no hard links, by which parts are published (SMB and mounted buckets have none): "
            "choose another one",
            str(path),
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a private temporary path; on success sync it and put it in the place of what is there, which stays whole
    until then. For files that a user names; parts are published."""
    temporary = _temporary(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Replace a small file in one step: its readers see the old or the new text, never a mixture."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.name}"


def sync(path: Path) -> None:
    """Force a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(root: Path) -> int:
    """Delete what killed attempts left under `root`; returns how many. Only for the holder of the store's lock."""
    leftovers = list(root.rglob(f"{TEMPORARY_PREFIX}*"))
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(leftovers)
