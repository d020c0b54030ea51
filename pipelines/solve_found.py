"""Rules about what searches found (`dedupe`, `decontaminate`): only rows that a search names are looked at.

Those rows are gathered, with what the rule needs of them, into a table `work`; the SQL of
pipelines/select_duplicates.py then says which of them the rule rejects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from curation.policy import Decontaminate, Dedupe
from pipelines import database
from pipelines.decide import VERSION, Decider, passed_before
from pipelines.rule_sql import PREFIX, sparse_names
from pipelines.select_duplicates import NEEDS, decontaminate, dedupe_semantic, dedupe_texts, gives, tables_read
from pipelines.sparse import Sparse
from pipelines.views import DUPLICATES, SEARCHES

BATCHES_AT_A_TIME = 20
"""Batches whose uids are looked up together."""
FOUND = {
    "media": "select media_uid as uid, duplicate_group, dense_rank() over (order by duplicate_group) as group_number "
    "from duplicates where duplicate_group is not null",
    "texts": "select text_uid as uid from text_duplicates where text_duplicate_group is not null",
    "semantic": "select uid from semantic_edges union select other_uid from semantic_edges",
    "evaluation": "select distinct uid from evaluation_matches",
}
"""SQL: the uids (of media or texts) that a search names."""
_PLACES = pa.schema([("batch", pa.int32()), ("row", pa.int64())])
_GROUPS = pa.schema([*_PLACES, ("group_number", pa.int64()), ("duplicate_group", pa.string())])
_LOSERS = pa.schema([*_PLACES, ("duplicate_of", pa.string())])
SQL_KINDS = {"semantic_similarity": pa.float64(), "evaluation_distance": pa.int32(),
             "evaluation_similarity": pa.float64()}  # fmt: skip


def solve_found(decider: Decider, n: int, item: Dedupe | Decontaminate) -> None:
    """Find the rows that the rule rejects, with what it says of each, as columns of few rows."""
    names = gives(item)

    def find() -> pa.Table:
        _open_searches(decider, item)
        is_media = isinstance(item, Dedupe) and item.of == "media"
        found = _media_losers(decider, n, item) if is_media else _rejected(decider, n, item)
        decider.drop("work", "members")
        for table in tables_read(item):
            decider.con.execute(f"drop view {table}")
        return found.select(["batch", "row", *names])

    source = Sparse(decider.remembered(n, find))
    decider.sparse |= {name: (source, column) for name, column in zip(sparse_names(n, item), names, strict=True)}
    decider.solved[n] = {}


def _open_searches(decider: Decider, item: Dedupe | Decontaminate) -> None:
    for table in tables_read(item):
        given = decider.searches.get(table, ())
        if isinstance(given, pa.Table):
            decider.con.register(table, given)
        else:
            database.create_view(decider.con, table, given, {"duplicates": DUPLICATES, **SEARCHES}[table])


def _media_losers(decider: Decider, n: int, item: Dedupe | Decontaminate) -> pa.Table:
    """Of duplicate media: each batch brings its texts down to one row for each medium, with the values of the first of
    them in the pool's order."""
    assert isinstance(item, Dedupe)
    where = Sparse(_located(decider, "media"))
    columns = list(dict.fromkeys(["media_uid", "sample_uid", *decider.reads[n]]))

    def members(batch: int) -> pa.Table:
        rows = pa.array(where.rows(batch))
        table = decider.rows.read(batch, columns)
        passed = passed_before(decider, batch, n).take(rows)
        table = table.take(rows).append_column("row", rows).append_column("passed", passed)
        table = table.append_column("group_number", where.values("group_number", batch))
        others = ", ".join(f"arg_min_null({database.quoted(name)}, row) as {database.quoted(name)}"
                           for name in [*columns, "group_number"] if name != "media_uid")  # fmt: skip
        with decider.candidates(table) as con:
            return database.arrow(
                con,
                f"select media_uid, {others}, bool_or(passed) as passed, list(row order by row) as rows "
                "from candidates group by media_uid order by min(row)",
            )

    batches = np.unique(where.table.column("batch").to_numpy()).tolist()
    for batch, found in decider.each(members, batches):
        decider.fill("members", batch, found)
    if not batches:
        return _LOSERS.empty_table().append_column("duplicate_group", pa.array([], pa.string()))
    sql = database.query("select/media_losers").replace("{prefer}", item.prefer)
    losers = database.arrow(decider.con, sql).cast(_LOSERS)
    return losers.append_column("duplicate_group", where.look_up("duplicate_group", losers))


def _rejected(decider: Decider, n: int, item: Dedupe | Decontaminate) -> pa.Table:
    """Of the other searches: all rows that they name are gathered into `work`."""
    columns = [*decider.reads[n], "text_uid", "sample_uid", "media_uid"]
    wanted = [name for name in dict.fromkeys(columns) if name in decider.known]
    where = Sparse(_located(decider, item.of if isinstance(item, Dedupe) else "evaluation"))

    def work(batch: int) -> pa.Table:
        table = decider.rows.read(batch, wanted)
        table = table.append_column("row", pa.array(np.arange(table.num_rows)))
        table = table.append_column(f"{PREFIX}passed", passed_before(decider, batch, n))
        return table.take(pa.array(where.rows(batch)))

    batches = np.unique(where.table.column("batch").to_numpy()).tolist()
    for batch, found in decider.each(work, batches):
        decider.fill("work", batch, found)
    names = gives(item)
    if not batches:
        return pa.schema([*_PLACES, *((name, SQL_KINDS.get(name, pa.string())) for name in names)]).empty_table()
    fields = ", ".join(f"{name}_{n} as {name}" for name in names)
    return database.arrow(
        decider.con, f"select batch, row, {fields} from ({_judged(decider.con, n, item)}) where not pass_{n}"
    )


def _judged(con: database.Connection, n: int, item: Dedupe | Decontaminate) -> str:
    """SQL: the rows of `work` with `pass_<n>` and the columns that the rule gives."""
    passed = f"{PREFIX}passed"
    match item:
        case Decontaminate():
            return decontaminate(con, item, n)
        case Dedupe(of="texts"):
            return dedupe_texts(con, item, n, passed)
        case Dedupe(of="semantic"):
            return dedupe_semantic(con, item, n, passed)
    raise TypeError(f"{item!r} is no rule about texts or embeddings")


def _located(decider: Decider, search: str) -> pa.Table:
    """(batch, row) of every row whose text or medium the search names, and of media the duplicate group and its number.

    No rule has a say in this, so it is found once for a pool and its searches.
    """
    tables = {"media": ("duplicates",), "evaluation": ("evaluation_matches",)}.get(search) or NEEDS[search]
    uids = {"media": ["media_uid"], "texts": ["text_uid"]}.get(search, ["media_uid", "text_uid"])
    find = partial(_locate, decider, search, uids)
    return decider.kept_of("located", ["located", VERSION, search], tables, uids, find)


def _locate(decider: Decider, search: str, uids: list[str]) -> pa.Table:
    con = decider.con
    con.execute(f"create table named as {FOUND[search]}")
    (count,) = database.rows(con, "select count(*) as uids from named")

    def read(batch: int) -> pa.Table:
        table = decider.rows.read(batch, uids)
        table = table.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.int64)))
        return table.append_column("batch", pa.array(np.full(table.num_rows, batch, dtype=np.int32)))

    pieces = [(_GROUPS if search == "media" else _PLACES).empty_table()]
    for together in _together(decider, read) if count["uids"] else ():
        con.register("pool_uids", together)
        is_named = " or ".join(f"{uid} in (select uid from named)" for uid in uids)
        sql = f"select batch, row from pool_uids where {is_named}"
        if search == "media":
            sql = "select batch, row, group_number, duplicate_group from pool_uids join named on uid = media_uid"
        pieces.append(database.arrow(con, sql).cast(pieces[0].schema))
        con.unregister("pool_uids")
    con.execute("drop table named")
    return pa.concat_tables(pieces)


def _together(decider: Decider, read: Callable[[int], pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for _, table in decider.each(read):
        waiting.append(table)
        if len(waiting) == BATCHES_AT_A_TIME:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
