"""Rules about what searches found (`dedupe`, `decontaminate`): only rows that a search names are looked at.

Those rows are gathered, with what the rule needs of them, into a table `work`; the SQL of
pipelines/select_duplicates.py then says which of them the rule rejects.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from curation.policy import Decontaminate, Dedupe
from pipelines import database
from pipelines.decide import VERSION, Decider, passed_before
from pipelines.group_ranks import dedupe_groups
from pipelines.rule_sql import PREFIX
from pipelines.select_duplicates import NEEDS, decontaminate, dedupe_semantic, gives, tables_read
from pipelines.sparse import Sparse
from pipelines.spilled import result_of
from pipelines.uid_index import Keys, UidIndex
from pipelines.views import SEARCHES

FOUND = {
    "semantic": "select uid from semantic_edges union select other_uid from semantic_edges",
    "evaluation": "select distinct uid from evaluation_matches",
}
"""SQL: the uids (of media or texts) that a search names."""
UIDS = ("media_uid", "text_uid")
_NAMED_ROWS = 1 << 18
"""Uids of a search that are read at a time."""
_PLACES = pa.schema([("batch", pa.int32()), ("row", pa.int64())])
SQL_KINDS = {"semantic_similarity": pa.float64(), "evaluation_distance": pa.int32(),
             "evaluation_similarity": pa.float64()}  # fmt: skip


def solve_found(decider: Decider, n: int, item: Dedupe | Decontaminate) -> None:
    """Find the rows that the rule rejects, with what it says of each."""
    decider.solved[n] = {}
    if isinstance(item, Dedupe) and item.of != "semantic":
        decider.said[n] = dedupe_groups(decider, n, item)
        return

    def find() -> pa.Table:
        _open_searches(decider, item)
        found = _rejected(decider, n, item)
        decider.drop("work")
        for table in tables_read(item):
            decider.con.execute(f"drop view {table}")
        return found.select(["batch", "row", *gives(item)])

    decider.said[n] = Sparse(decider.remembered(n, find))


def _open_searches(decider: Decider, item: Dedupe | Decontaminate) -> None:
    for table in tables_read(item):
        given = decider.searches.get(table, ())
        if isinstance(given, pa.Table):
            decider.con.register(table, given)
        else:
            database.create_view(decider.con, table, given, SEARCHES[table])


def _rejected(decider: Decider, n: int, item: Dedupe | Decontaminate) -> pa.Table:
    """Of the other searches: all rows that they name are gathered into `work`."""
    columns = [*decider.reads[n], "text_uid", "sample_uid", "media_uid"]
    wanted = [name for name in dict.fromkeys(columns) if name in decider.known]
    where = Sparse(_located(decider, item.of if isinstance(item, Dedupe) else "evaluation"))

    def work(batch: int) -> pa.Table:
        table = decider.rows.read(batch, wanted)
        table = table.append_column(f"{PREFIX}row", pa.array(np.arange(table.num_rows)))
        table = table.append_column(f"{PREFIX}passed", passed_before(decider, batch, n))
        return table.take(pa.array(where.rows(batch)))

    batches = np.unique(where.table.column("batch").to_numpy()).tolist()
    for batch, found in decider.each(work, batches):
        decider.fill("work", batch, found)
    names = gives(item)
    schema = pa.schema([*_PLACES, *((name, SQL_KINDS.get(name, pa.string())) for name in names)])
    if not batches:
        return schema.empty_table()
    fields = ", ".join(f"{name}_{n} as {name}" for name in names)
    judged = _judged(decider.con, n, item)
    places = f"{PREFIX}batch as batch, {PREFIX}row as row"
    sql = f"select {places}, {fields} from ({judged}) where not pass_{n} order by 1, 2"
    return result_of(decider.con, sql, schema, decider.spill)


def _judged(con: database.Connection, n: int, item: Dedupe | Decontaminate) -> str:
    """SQL: the rows of `work` with `pass_<n>` and the columns that the rule gives."""
    passed = f"{PREFIX}passed"
    match item:
        case Decontaminate():
            return decontaminate(con, item, n)
        case Dedupe(of="semantic"):
            return dedupe_semantic(con, item, n, passed)
    raise TypeError(f"{item!r} is no rule about embeddings or evaluation sets")


def _located(decider: Decider, search: str) -> pa.Table:
    """(batch, row) of every row whose text or medium the search names.

    No rule has a say in this, so it is found once for a pool and its searches.
    """
    tables = ("evaluation_matches",) if search == "evaluation" else NEEDS[search]
    find = partial(_locate, decider, search)
    return decider.kept_of("located", ["located", VERSION, search], tables, UIDS, find)


def _locate(decider: Decider, search: str) -> pa.Table:
    named = [
        Keys.of(piece.column("uid").combine_chunks())
        for piece in database.batches(decider.con, FOUND[search], _NAMED_ROWS)
    ]
    num = sum(len(piece.high) for piece in named)
    index = UidIndex(Keys.joined(named))

    def read(batch: int) -> np.ndarray:
        table = decider.rows.read(batch, UIDS)
        found = [index.find(table.column(name).combine_chunks()) >= 0 for name in UIDS]
        return np.flatnonzero(np.logical_or.reduce(found))

    pieces = [_PLACES.empty_table()]
    for batch, rows in decider.each(read) if num else ():
        pieces.append(pa.table([np.full(len(rows), batch, np.int32), rows], schema=_PLACES))
    return pa.concat_tables(pieces)
