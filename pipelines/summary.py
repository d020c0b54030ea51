"""What a store holds, as small tables: for `tamis status`, `tamis sql` and the end of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from curation.table import replacing
from pipelines import database
from pipelines.selections import state_of
from pipelines.sources import SourceError
from pipelines.store import Store
from pipelines.views import open_store

Rows = list[dict[str, Any]]


def report_rows(con: database.Connection, name: str) -> Rows:
    """The rows of a stored report, such as `funnel`."""
    return database.rows(con, database.query(f"report/{name}"))


def status_tables(store: Store) -> list[tuple[str, Rows]]:
    """Titles and rows: tables, funnel, versions, models, the last runs."""
    con = open_store(store)
    tables = database.rows(
        con,
        "select 'samples' as what, count(distinct sample_uid) as rows from texts "
        "union all select 'texts', count(*) from texts "
        "union all select 'media downloaded', count(*) filter (where status = 'ok') from media "
        "union all select 'media failed or refused', count(*) filter (where status <> 'ok') from media "
        "union all select 'texts kept', count(*) filter (where kept) from ledger",
    )
    runs = database.rows(
        con,
        "select run, recipe, outcome, any_value(seconds) as seconds, sum(parts_run)::bigint as parts_run, "
        "sum(parts_reused)::bigint as parts_reused from runs group by all order by run desc limit 5",
    )
    found = [
        (f"pool: {len(store.pool())} parts, {len(store.pool_sources())} link tables", tables),
        ("funnel of the last policy", report_rows(con, "funnel")),
        ("dataset versions", database.rows(con, "select * exclude (packed) from versions order by packed, version")),
        ("runs", runs),
    ]
    reasons = failures(con, 10)
    if reasons:
        found.insert(1, ("why media are not there (the first 10 reasons; all: tamis sql STORE reasons)", reasons))
    models = model_rows(store)
    return [*found, ("models", models)] if models else found


def failures(con: database.Connection, most: int) -> Rows:
    """Reason codes of media that were not fetched, the most frequent first."""
    return database.rows(
        con,
        "select reason, count(*) as media from media where status <> 'ok' group by reason order by media desc, reason "
        "limit ?",
        [most],
    )


def model_rows(store: Store) -> Rows:
    """The trained models of the store: name, version trained on, last metrics."""
    rows = []
    for path in sorted((store.root / "models").glob("*/result.json")):
        result = json.loads(path.read_text())
        rows.append(
            {"model": path.parent.name, **{k: v for k, v in result.items() if isinstance(v, int | float | str)}}
        )
    return rows


def listing(store: Store) -> Rows:
    """The stored queries and the views, with what each answers."""
    con = open_store(store)
    names = [name for name in database.queries() if name.startswith(("report/", "audit/"))]
    rows: Rows = [{"name": name, "what": database.headline(name)} for name in names]
    views = database.rows(
        con,
        "select table_name as name, string_agg(column_name, ', ' order by column_index) as what "
        "from duckdb_columns() where not internal and not ends_with(table_name, '__empty') "
        "group by table_name order by table_name",
    )
    return [*rows, *views]


def ask(store: Store, query: str, selection: str | None = None, timeout_s: float | None = None) -> pa.Table:
    """The rows of a stored query (by name, `report/` may be left out) or of SQL text, on a read-only database.

    selection: whose decisions the views show, if not the last one's (`pipelines.selections`). timeout_s: after so many
    seconds the query is ended. Raises SourceError, StoreError or SqlError.
    """
    if any("\ud800" <= ch <= "\udfff" for ch in query):
        raise SourceError("the query is not UTF-8: set a UTF-8 locale, for instance LC_ALL=C.UTF-8")
    con = open_store(store, None if selection is None else state_of(store, selection), locked=True)
    name = next((name for name in (query, f"report/{query}") if name in database.queries()), None)
    if name is None and query.replace("/", "").replace("_", "").isalnum():
        raise SourceError(f"there is no stored query {query!r}; there are: {', '.join(database.queries('report'))}")
    statement = database.query(name) if name else query
    kinds = database.kinds_of(con, statement)
    if kinds != ["SELECT"]:
        raise SourceError(f"only one SELECT is answered, this is {', '.join(kinds) or 'empty'}: a store is read-only")
    try:
        table = database.stoppable(con, statement, timeout_s)
    except database.TooSlow as error:
        raise SourceError(f"{error}: ask for less, or allow more with --timeout") from None
    return table.rename_columns(_apart(table.column_names))


def _apart(names: list[str]) -> list[str]:
    """The names, those that came before with a number behind them: `a`, `a_1`."""
    found: list[str] = []
    for name in names:
        number, new = 0, name
        while new in found:
            number += 1
            new = f"{name}_{number}"
        found.append(new)
    return found


def check_result(output: Path | None, *more: str) -> None:
    """Raises SourceError where `output` has no ending that can be written (`more`: others that the caller writes).
    To be asked before the work: an answer of an hour is lost otherwise."""
    endings = [".parquet", ".csv", *more]
    if output is not None and output.suffix not in endings:
        raise SourceError(f"{output}: the ending must be {', '.join(endings[:-1])} or {endings[-1]}")


def write_result(table: pa.Table, output: Path) -> None:
    """Write rows as Parquet or CSV by the file's ending; in CSV lists become JSON, and bytes hexadecimal digits."""
    check_result(output)
    with replacing(output.absolute()) as temporary:
        if output.suffix == ".parquet":
            pq.write_table(table, temporary, compression="zstd")
        else:
            pyarrow.csv.write_csv(_flat(table), temporary)


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    kinds = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(each(kind) for each in kinds)


def _plain(value: object) -> str:
    """What JSON has no form for: bytes as digests are written, times and decimals as in a column of their own."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _flat(table: pa.Table) -> pa.Table:
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_nested(column.type):
            texts = [
                None if v is None else json.dumps(v, default=_plain, ensure_ascii=False) for v in column.to_pylist()
            ]
            column = pa.array(texts, pa.string())
        elif _is_bytes(column.type):
            column = pa.array([None if v is None else _plain(v) for v in column.to_pylist()], pa.string())
        if any(
            is_text(column.type) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        ):
            # a cell that begins like a formula would be run by a spreadsheet
            cells = [f"'{v}" if v and v[0] in "=+-@\t\r" else v for v in column.to_pylist()]
            column = pa.array(cells, pa.string())
        columns[name] = column
    return pa.table(columns)
