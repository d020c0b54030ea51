"""Reading link tables: Parquet, CSV, TSV and JSONL, with clear errors for what cannot be read."""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.step import suggest

if TYPE_CHECKING:
    from pipelines.recipe import Columns

BATCH_ROWS = 50_000
"""Rows held at a time while a link table is read."""
SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".json", ".ndjson")
MAX_FIELD_CHARS = 1 << 26
"""Longest field of a CSV or TSV file; Python's default, 131,072, is shorter than some alt texts."""
Value = str | list[str | None] | None
Row = list[Value]


class SourceError(ValueError):
    """A link table that is missing, unreadable, empty or lacks a column: file, problem, what to do."""


class EmptyTable(SourceError):
    """A link table without a row, such as a job writes for a share of its work that gave nothing."""


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


def read_links(path: Path, columns: Columns, takes_lists: bool = False) -> Iterator[pa.Table]:
    """Batches of a link table with the columns that `columns` names, all as strings; an empty field of a CSV or TSV
    file is null.

    takes_lists: whether a text column of Parquet or JSON may hold several texts a row; it is then of lists of strings.
    Raises SourceError for a file that cannot be read, lacks a column or has one of another type, and EmptyTable where
    it has no rows.
    """
    rows = 0
    with _explained(path):
        for batch in _batches(path, columns, columns.text if takes_lists else []):
            rows += len(batch)
            yield batch
    if rows == 0:
        raise EmptyTable(f"{path}: has no rows")


def check_columns(path: Path, columns: Columns) -> None:
    """Raises SourceError where the head of a Parquet, CSV or TSV file lacks a column that `columns` names; what a file
    of JSON lines lacks is known when it has been read. An empty file passes."""
    wanted, kind = _wanted(columns), kind_of(path)
    with suppress(EmptyTable), _explained(path):
        if kind == "parquet":
            with pq.ParquetFile(path) as file:
                _check(path, wanted, file.schema_arrow.names)
        elif kind != "json":
            with _opened(path) as text:
                next(_separated_rows(path, text, wanted), None)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of a file that cannot be read, as SourceError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}: is not UTF-8: {error.reason} (byte 0x{error.object[error.start]:02x}, after "
            f"{_before(error)!r}); save it as UTF-8, for instance `iconv -f {_likely(error)} -t utf-8`"
        ) from error
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read as {kind_of(path)}: {str(error).splitlines()[0]}") from error


def _before(error: UnicodeDecodeError) -> str:
    """The end of the text that could be read, to find the place by: the position is one within a block."""
    return bytes(error.object[max(0, error.start - 30) : error.start]).decode("utf-8", "replace")


def _likely(error: UnicodeDecodeError) -> str:
    """The encoding that it probably is."""
    return "utf-16" if error.start == 0 and error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"


def _wanted(columns: Columns) -> list[str]:
    """The names of the columns that are read, each once."""
    wanted = [columns.url, *columns.text, *columns.extra]
    wanted += [name for name in (columns.language, columns.hash, columns.picture) if name is not None]
    return list(dict.fromkeys(wanted))


def _batches(path: Path, columns: Columns, lists: Collection[str]) -> Iterator[pa.Table]:
    wanted, kind = _wanted(columns), kind_of(path)
    if kind == "parquet":
        with pq.ParquetFile(path) as file:
            _check(path, wanted, file.schema_arrow.names)
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                yield pa.table({name: _strings(path, name, batch.column(name), name in lists) for name in wanted})
        return
    with _opened(path) as text:
        rows = _json_rows(path, text, wanted, lists) if kind == "json" else _separated_rows(path, text, wanted)
        held: list[Row] = []
        for row in rows:
            held.append(row)
            if len(held) == BATCH_ROWS:
                yield _table(held, wanted)
                held = []
        if held:
            yield _table(held, wanted)


def _strings(path: Path, name: str, column: pa.Array, may_be_lists: bool) -> pa.Array:
    """A column of a Parquet file as strings, or as lists of them."""
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if pa.types.is_floating(kind):  # pandas writes what is missing as NaN
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    if not is_list and not pa.types.is_nested(kind):
        return _checked(path, name, column)
    if not is_list or pa.types.is_nested(kind.value_type):
        raise SourceError(f"{path}: column {name!r} is of type {kind}; a text, a number or a list of texts is read")
    if not may_be_lists:
        raise SourceError(
            f"{path}: column {name!r} is of lists ({kind}); only a column of texts may hold several a row"
        )
    _checked(path, name, column.flatten())
    return column.cast(pa.list_(pa.string()))


def _checked(path: Path, name: str, values: pa.Array) -> pa.Array:
    """As strings, which are UTF-8: writers may put anything into a column of strings, and readers do not look."""
    try:
        strings = values.cast(pa.string())
        strings.validate(full=True)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: column {name!r} is not UTF-8: {error}; write it anew as UTF-8") from error
    return strings


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """The file as UTF-8 text with its line ends as they are; unpacked where it is gzipped."""
    if path.stat().st_size == 0:
        raise EmptyTable(f"{path}: is empty")
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as text:
        yield text


def _separated_rows(path: Path, text: IO[str], wanted: list[str]) -> Iterator[Row]:
    """Rows of a CSV or TSV file. A caption may hold doubled quotes and, inside quotes, line ends.

    Strict: a quote that is never closed would otherwise swallow the rows behind it without a word.
    """
    csv.field_size_limit(MAX_FIELD_CHARS)
    reader = csv.reader(text, delimiter="\t" if kind_of(path) == "tsv" else ",", strict=True)
    try:
        header = next((row for row in reader if row), None)
        if header is None:
            raise EmptyTable(f"{path}: is empty")
        if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0]), None)) is not None:
            raise SourceError(f"{path}: its fields are separated by {other!r}; write it anew with commas, or as .tsv")
        _check(path, wanted, header)
        places = [header.index(name) for name in wanted]
        for row in reader:
            if len(row) == len(header):
                yield [row[place] or None for place in places]
            elif row:
                raise SourceError(
                    f"{path}:{reader.line_num}: {len(row)} fields, the header has {len(header)}; quote what holds "
                    "a separator"
                )
    except csv.Error as error:
        raise SourceError(
            f"{path}:{reader.line_num}: {error}; a field that begins with a quote must end with one, and quotes inside "
            "it are doubled"
        ) from error


def _json_rows(path: Path, text: IO[str], wanted: list[str], lists: Collection[str]) -> Iterator[Row]:
    """Rows of a file with one JSON object a line; a key that a line lacks is null there."""
    seen: dict[str, None] = {}
    number = 0
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}:{number}: is not JSON: {error}; one object a line is read") from error
        if not isinstance(row, dict):
            raise SourceError(f"{path}:{number}: holds {type(row).__name__}, not an object; one object a line is read")
        seen |= dict.fromkeys(row)
        yield [_json_value(path, number, name, row.get(name), name in lists) for name in wanted]
    if not seen:
        raise EmptyTable(f"{path}: is empty")
    _check(path, wanted, list(seen))


def _json_value(path: Path, number: int, name: str, value: object, may_be_list: bool) -> Value:
    if may_be_list and isinstance(value, list):
        return [_json_text(path, number, name, each) for each in value]
    return _json_text(path, number, name, value)


def _json_text(path: Path, number: int, name: str, value: object) -> str | None:
    if isinstance(value, list | dict):
        raise SourceError(f"{path}:{number}: {name!r} is a {type(value).__name__}; a text, a number or null is read")
    is_missing = value is None or (isinstance(value, float) and math.isnan(value))
    text = None if is_missing else value if isinstance(value, str) else json.dumps(value)
    if text is not None and any("\ud800" <= ch <= "\udfff" for ch in text):
        raise SourceError(f"{path}:{number}: {name!r} holds half a surrogate pair, which is no text")
    return text


def _table(rows: list[Row], wanted: list[str]) -> pa.Table:
    return pa.table({name: _column([row[i] for row in rows]) for i, name in enumerate(wanted)})


def _column(values: list[Value]) -> pa.Array:
    if not any(isinstance(value, list) for value in values):
        return pa.array(values, pa.string())
    return pa.array([[value] if isinstance(value, str) else value for value in values], pa.list_(pa.string()))


def _check(path: Path, wanted: list[str], present: list[str]) -> None:
    for name in wanted:
        if name not in present:
            raise SourceError(
                f"{path}: has no column {name!r}; {suggest(name, present)}; map them with --columns url=URL,text=TEXT"
            )
        if present.count(name) > 1:
            raise SourceError(f"{path}: has {present.count(name)} columns called {name!r}")
