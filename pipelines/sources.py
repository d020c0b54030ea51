"""Reading link tables: Parquet, CSV, TSV and JSONL, with clear errors for what cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from curation.step import suggest
from pipelines.recipe import Columns

BATCH_ROWS = 50_000
"""Rows held at a time while a link table is read."""
SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".json", ".ndjson")


_JSON = pyarrow.json.ReadOptions(block_size=1 << 26)  # one line (a long caption) must fit into a block


class SourceError(ValueError):
    """A link table that is missing, unreadable, empty or lacks a column: file, problem, what to do."""


def find_files(paths: list[Path]) -> list[Path]:
    """The link tables that `paths` name: files as they are, folders by their files with a known ending, sorted."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.is_file() and kind_of(each) is not None)
            if not inside:
                raise SourceError(
                    f"{path}: the folder holds no link table ({', '.join(SUFFIXES)}, the text ones also .gz)"
                )
            files += inside
        elif path.is_file():
            if kind_of(path) is None:
                raise SourceError(f"{path}: unknown ending; valid: {', '.join(SUFFIXES)}, the text ones also with .gz")
            files.append(path)
        else:
            raise SourceError(f"{path}: there is no such file or folder")
    if not files:
        raise SourceError("no link table is named: give `source.links` in the recipe or --links FILE")
    return files


def kind_of(path: Path) -> str | None:
    """`parquet`, `csv`, `tsv` or `json` by the name's ending, or None."""
    name = path.name.lower().removesuffix(".gz")
    suffix = next((each for each in SUFFIXES if name.endswith(each)), None)
    if suffix == ".parquet" and path.name.lower().endswith(".gz"):
        return None
    return None if suffix is None else "json" if suffix in (".jsonl", ".json", ".ndjson") else suffix[1:]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_links(path: Path, columns: Columns) -> Iterator[pa.Table]:
    """Batches of a link table with the columns that `columns` names, all as strings.

    Raises SourceError for a file that cannot be read, lacks a column or has no rows.
    """
    rows = 0
    try:
        for batch in _batches(path, columns):
            rows += len(batch)
            yield batch
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise SourceError(f"{path}: cannot be read as {kind_of(path)}: {str(error).splitlines()[0]}") from error
    if rows == 0:
        raise SourceError(f"{path}: has no rows")


def _batches(path: Path, columns: Columns) -> Iterator[pa.Table]:
    wanted = [columns.url, *columns.text, *columns.extra]
    wanted += [name for name in (columns.language, columns.sha256) if name is not None]
    wanted = list(dict.fromkeys(wanted))
    kind = kind_of(path)
    if kind == "parquet":
        with pq.ParquetFile(path) as file:
            _check(path, wanted, file.schema_arrow.names)
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                yield _strings(pa.table(batch), wanted)
    elif kind in ("csv", "tsv"):
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: is empty")
        text = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=True, null_values=[""]
        )
        # a caption may hold quotes and, inside quotes, line ends
        parse = pyarrow.csv.ParseOptions(delimiter="\t" if kind == "tsv" else ",", newlines_in_values=True)
        with pyarrow.csv.open_csv(path, parse_options=parse, convert_options=text) as reader:
            _check(path, wanted, reader.schema.names)
            for batch in reader:
                yield _strings(pa.table(batch).select(wanted), wanted)
    else:
        table = pyarrow.json.read_json(path, _JSON) if path.stat().st_size else pa.table({})
        if table.num_rows == 0:
            raise SourceError(f"{path}: is empty")
        _check(path, wanted, table.column_names)
        yield _strings(table.select(wanted), wanted)


def _check(path: Path, wanted: list[str], present: list[str]) -> None:
    for name in wanted:
        if name not in present:
            raise SourceError(
                f"{path}: has no column {name!r}; {suggest(name, present)}; map them with --columns url=URL,text=TEXT"
            )


def _strings(table: pa.Table, wanted: list[str]) -> pa.Table:
    return pa.table({name: table.column(name).cast(pa.string()) for name in wanted})
