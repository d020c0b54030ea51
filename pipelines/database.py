"""The one module that speaks to DuckDB: in-memory databases over verified Parquet files, locked down."""

from __future__ import annotations

import difflib
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Any

import duckdb
import pyarrow as pa

Connection = duckdb.DuckDBPyConnection
SqlError = duckdb.Error
NUMERIC = frozenset(
    ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
     "FLOAT", "DOUBLE", "DECIMAL"]
)  # fmt: skip
_UNKNOWN_COLUMN = re.compile(r'Referenced column "([^"]+)" not found')
_ONLY_IN_SQL = re.compile(r"INTERVAL|UNION|BIGNUM|\bBIT\b|\bTIME WITH TIME ZONE|TIMESTAMP_NS")
"""Types that Python, Parquet or CSV do not know, in the name of a column's type."""
_EXPLAIN = re.compile(r"(?is)explain\s+(?:analyze\s+)?(?:\(\s*(?:analyze|format)\b[^)]*\)\s*)?(.*)")
_READING = re.compile(r"(?i)(?:select|from|with|pivot|pivot_wider|values|table)\b|\(")
"""How a query begins; a `copy` with a query in it does not begin so."""
MEMORY_LIMIT = "4GB"
"""Beyond this DuckDB spills to disk; balancing and selection of 10^7 rows stay below it."""


def connect(
    allowed: Path | None = None,
    spill: Path | None = None,
    memory_limit: str = MEMORY_LIMIT,
    threads: int | None = None,
) -> Connection:
    """An in-memory database of `threads` threads (all processors if not said). What memory does not hold goes into
    `spill`, else into the temporary folder; DuckDB would put it where the process happens to stand.

    With `allowed`, it can then reach files in that folder only, and no setting can change.

    The order matters: once external access is off, `allowed_directories` can no longer be set, and once the
    configuration is locked, nothing can.
    """
    con = duckdb.connect()
    con.execute(f"set memory_limit = '{memory_limit}'")
    con.execute("set preserve_insertion_order = false")
    # a division by zero is null: NaN, which 0 / 0 would be, is larger than every threshold
    con.execute("set error_on_division_by_zero = false")
    con.execute("set ieee_floating_point_ops = false")
    if threads is not None:
        con.execute(f"set threads = {int(threads)}")
    if spill is not None:
        spill.parent.mkdir(parents=True, exist_ok=True)  # DuckDB makes the last folder only
    con.execute("set temp_directory = ?", [str(spill or tempfile.gettempdir())])
    if allowed is not None:
        con.execute("set allowed_directories = ?", [[str(allowed)]])
        con.execute("set enable_external_access = false")
        con.execute("set lock_configuration = true")
    return con


def create_view(
    con: Connection, name: str, files: Sequence[Path], schema: pa.Schema | None = None, filename: bool = False
) -> None:
    """View `name` over Parquet `files`; without files an empty table of `schema` stands in for it.

    filename: whether it has the column `filename`, too.

    Files are passed as a list of names, never as a pattern.
    """
    if files:
        con.read_parquet([str(path) for path in files], union_by_name=True, filename=filename).create_view(name)
    elif schema is not None:
        empty = schema.empty_table()
        con.register(f"{name}__empty", empty)
        con.execute(f"create view {quoted(name)} as select * from {quoted(name + '__empty')}")
    else:
        raise ValueError(f"the view {name} has neither files nor a schema")


def quoted(identifier: str) -> str:
    """`identifier` as SQL spells a name, whatever characters it holds."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: str) -> str:
    """`value` as a SQL string, for the places where DuckDB takes no parameter (DDL)."""
    return "'" + value.replace("'", "''") + "'"


@cache
def query(name: str) -> str:
    """The text of `sql/<name>.sql`; raises KeyError naming the valid ones."""
    path = resources.files("sql").joinpath(f"{name}.sql")
    if not path.is_file():
        raise KeyError(f"no query {name!r}; there are: {', '.join(queries())}")
    return path.read_text(encoding="utf-8")


def queries(folder: str = "") -> list[str]:
    """Names of all stored queries, such as `report/funnel`, or of those in one folder."""
    root = Path(str(resources.files("sql")))
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.sql"))
    return sorted(name for name in names if name.startswith(f"{folder}/" if folder else ""))


def headline(name: str) -> str:
    """First comment line of a stored query: what it answers."""
    first = query(name).lstrip().splitlines()[0]
    return first.removeprefix("--").strip()


def columns_of(expression: str, where: str = "predicate") -> list[str]:
    """Names of the columns that a SQL expression reads, in order of appearance.

    Raises ValueError where it is not one single expression.
    """
    names: dict[str, None] = {}
    _collect(syntax_tree(expression, where), names)
    return list(names)


@cache
def _for_checks() -> Connection:
    """One database for all that is parsed or bound and not run: to open one takes 13 ms, a cursor of it 0.2."""
    return connect()


@lru_cache(maxsize=4096)
def syntax_tree(expression: str, where: str = "predicate") -> dict[str, Any]:
    """What DuckDB's parser makes of an expression; raises ValueError where it is not one single expression."""
    if not expression.strip():
        raise ValueError(f"{where} is empty")
    con = _for_checks().cursor()
    statement = f"select ({expression}\n) as value"
    ((serialised,),) = con.execute("select json_serialize_sql(?::varchar)", [statement]).fetchall()
    tree = json.loads(serialised)
    if tree.get("error"):
        raise ValueError(f"{where} is not valid SQL: {_syntax_error(tree, expression)}")
    if len(tree["statements"]) != 1 or len(tree["statements"][0]["node"].get("select_list", [])) != 1:
        raise ValueError(f"{where} must be one SQL expression")
    found: dict[str, Any] = tree["statements"][0]
    return found


def rewritten(expression: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """SQL: `expression` with what `change` gives for each node of its syntax tree, inner ones first; as it stands where
    that is the same."""
    before = syntax_tree(expression)
    after = _changed(before, change)
    if after == before:
        return expression
    after["node"]["select_list"][0]["alias"] = "value"
    tree = json.dumps({"error": False, "statements": [after]})
    ((sql,),) = _for_checks().cursor().execute("select json_deserialize_sql(?::json)", [tree]).fetchall()
    return str(sql).removeprefix("SELECT ").rpartition(" AS ")[0]


def _changed(node: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if isinstance(node, list):
        return [_changed(each, change) for each in node]
    return change({k: _changed(v, change) for k, v in node.items()}) if isinstance(node, dict) else node


def _syntax_error(tree: Mapping[str, Any], expression: str) -> str:
    """What the parser says, without the words that were put around the expression."""
    message = str(tree.get("error_message", "unknown error")).splitlines()[0]
    position = str(tree.get("position", ""))
    is_behind = position.isdigit() and int(position) >= len("select (") + len(expression)
    return "something is missing at its end" if is_behind else message


def _collect(node: object, names: dict[str, None]) -> None:
    if isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            names.setdefault(node["column_names"][-1])
        for child in node.values():
            _collect(child, names)
    elif isinstance(node, list):
        for child in node:
            _collect(child, names)


def check_expression(expression: str, types: Mapping[str, pa.DataType], wanted: str | None = None) -> str:
    """Bind `expression` against columns of these types without running it; returns its SQL type, raises ValueError with
    DuckDB's reason.

    `wanted` is the SQL type that it must have, such as BOOLEAN; NUMBER stands for all numeric ones.
    """
    found = str(_bound(f"select ({expression}\n) as value from candidates", types).types[0])
    fits = found.partition("(")[0] in NUMERIC if wanted == "NUMBER" else found == wanted
    if wanted is not None and not fits and found != '"NULL"':
        raise ValueError(f"it is of type {found}, not {wanted}")
    return found


def check_in_where(expression: str, types: Mapping[str, pa.DataType]) -> None:
    """Bind `expression` where SQL allows no aggregate; raises ValueError with DuckDB's reason."""
    _bound(f"select 1 from candidates where ({expression}\n) is not null", types)


def _bound(sql: str, types: Mapping[str, pa.DataType]) -> duckdb.DuckDBPyRelation:
    con = _for_checks().cursor()
    con.register("candidates", pa.table({name: pa.nulls(1, readable(kind)) for name, kind in types.items()}))
    try:
        found = con.sql(sql)
        found.fetchall()  # one row of nulls: a constant that cannot be converted is found now
        return found
    except duckdb.Error as error:
        raise ValueError(said(error, list(types))) from error


def said(error: SqlError, columns: Sequence[str] = ()) -> str:
    """The first line of what DuckDB says, which holds the reason; of an unknown column its name, and the like of it
    among `columns`."""
    unknown = _UNKNOWN_COLUMN.search(str(error))
    if unknown is None:
        return str(error).splitlines()[0]
    near = difflib.get_close_matches(unknown[1], columns, n=1)
    return f"there is no column {unknown[1]!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def readable(kind: pa.DataType) -> pa.DataType:
    """The type as DuckDB reads it: it takes half precision from Parquet (as FLOAT), but not from Arrow."""
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(readable(kind.value_type), kind.list_size)
    return pa.list_(readable(kind.value_type)) if pa.types.is_list(kind) else kind


def is_of_the_machine(error: SqlError) -> bool:
    """Whether it is about memory, disk or files, and so no fault of the query."""
    return isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException)


def rows(con: Connection, sql: str, parameters: Iterable[object] | Mapping[str, object] = ()) -> list[dict[str, Any]]:
    """All rows of a query as dictionaries."""
    given = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
    cursor = con.execute(sql, given)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def arrow(con: Connection, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
    """All rows of a query as one Arrow table."""
    relation = con.sql(sql, params=dict(parameters)) if parameters else con.sql(sql)
    return relation.to_arrow_table()


def spelled(con: Connection, sql: str) -> pa.Table:
    """As `arrow`, but what only SQL knows (intervals, unions, bits, nanoseconds) is text, as SQL spells it."""
    found = con.sql(sql)
    kinds = {f"c{place}": str(kind) for place, kind in enumerate(found.types)}
    if not any(map(_ONLY_IN_SQL.search, kinds.values())):
        return found.to_arrow_table()
    fields = ", ".join(f"{name}::varchar" if _ONLY_IN_SQL.search(kind) else name for name, kind in kinds.items())
    again = found.query("tamis__answer", f"select {fields} from tamis__answer as answer({', '.join(kinds)})")
    assert again is not None  # it is a SELECT
    return again.to_arrow_table().rename_columns(found.columns)


def kinds_of(con: Connection, sql: str) -> list[str]:
    """What each statement of `sql` does, such as SELECT or COPY, as far as it is known without running it.

    Of EXPLAIN it is what it explains, for EXPLAIN ANALYZE does that. A PIVOT finds its columns first, by a statement of
    its own: DuckDB calls these two MULTI, whether they only read or are the rows of a COPY.
    """
    found = []
    for each in con.extract_statements(sql):
        kind = str(each.type).rpartition(".")[2]
        if kind == "MULTI" and _READING.match(each.query):
            kind = "SELECT"
        explained = _EXPLAIN.match(each.query) if kind in ("EXPLAIN", "MULTI") else None
        found += kinds_of(con, explained[1]) if explained else [kind]
    return found


class TooSlow(RuntimeError):
    """A query that was ended because its time was up."""


def stoppable(con: Connection, sql: str, timeout_s: float | None = None) -> pa.Table:
    """As `spelled`, but what a signal's handler raises, such as Ctrl-C's KeyboardInterrupt, ends the query, and so does
    its time: then TooSlow is raised.

    DuckDB's own calls (2.0) keep the main thread, where handlers run, until they are done.
    """
    is_limited = timeout_s is not None and timeout_s < TIMEOUT_MAX
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(spelled, con, sql)
        try:
            is_over = bool(wait([asked], timeout_s if is_limited else None).done)
        except BaseException:
            con.interrupt()
            raise
        if not is_over:
            con.interrupt()
            raise TooSlow(f"the query was not done after {timeout_s:g} s")
    return asked.result()


def batches(
    con: Connection, sql: str, rows_at_a_time: int, parameters: Mapping[str, object] | None = None
) -> Iterator[pa.Table]:
    """The rows of a query, as many at a time; none that is empty."""
    relation = con.sql(sql, params=dict(parameters)) if parameters else con.sql(sql)
    for batch in relation.to_arrow_reader(rows_at_a_time):
        if batch.num_rows:
            yield pa.Table.from_batches([batch])
