"""Rules about what searches found (`dedupe`, `decontaminate`): only rows that a search names are looked at.

Those rows are gathered, with what the rule needs of them, into a table `work`; the SQL of
pipelines/select_duplicates.py then says which of them the rule rejects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from curation.policy import Decontaminate, Dedupe
from pipelines import database
from pipelines.decide import Decider, passed_before
from pipelines.rule_sql import PREFIX, sparse_names
from pipelines.select_duplicates import decontaminate, dedupe_media, dedupe_semantic, dedupe_texts, gives, tables_read
from pipelines.sparse import Sparse
from pipelines.views import DUPLICATES, SEARCHES

BATCHES_AT_A_TIME = 20
"""Batches whose uids are looked up together."""
FOUND = {
    "media": "select media_uid as uid from duplicates where duplicate_group is not null",
    "texts": "select text_uid as uid from text_duplicates where text_duplicate_group is not null",
    "semantic": "select uid from semantic_edges union select other_uid from semantic_edges",
    "evaluation": "select distinct uid from evaluation_matches",
}
"""SQL: the uids (of media or texts) that a search names."""
_PLACES = pa.schema([("batch", pa.int32()), ("row", pa.int64())])


def solve_found(decider: Decider, n: int, item: Dedupe | Decontaminate) -> None:
    """Find the rows that the rule rejects, with what it says of each, as columns of few rows."""
    con = decider.con
    for table in tables_read(item):
        schema = {"duplicates": DUPLICATES, **SEARCHES}[table]
        given = decider.searches.get(table, ())
        if isinstance(given, pa.Table):
            con.register(table, given)
        else:
            database.create_view(con, table, given, schema)
    columns = [*decider.reads[n], "text_uid", "sample_uid", "media_uid"]
    wanted = [name for name in dict.fromkeys(columns) if name in decider.known]
    where = Sparse(_located(decider, item.of if isinstance(item, Dedupe) else "evaluation"))

    def work(batch: int) -> pa.Table:
        table = decider.rows.read(batch, wanted)
        table = table.append_column("row", pa.array(np.arange(table.num_rows)))
        table = table.append_column(f"{PREFIX}passed", passed_before(decider, batch, n))
        return table.take(pa.array(where.rows(batch)))

    batches = np.unique(where.table.column("batch").to_numpy()).tolist()
    # an empty table has its columns too
    for batch, found in decider.each(work, batches or [0][: len(decider.sizes)]):
        decider.fill("work", batch, found)
    names = gives(item)
    rejected = pa.table({name: [] for name in ("batch", "row", *names)})
    if batches:
        fields = ", ".join(f"{name}_{n} as {name}" for name in names)
        rejected = database.arrow(con, f"select batch, row, {fields} from ({_judged(con, n, item)}) where not pass_{n}")
    decider.drop("work")
    for table in tables_read(item):
        con.execute(f"drop view {table}")
    source = Sparse(pa.table({name: rejected.column(name) for name in rejected.column_names}))
    decider.sparse |= {name: (source, column) for name, column in zip(sparse_names(n, item), names, strict=True)}
    decider.solved[n] = {}


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
    return dedupe_media(con, item, n, passed)


def _located(decider: Decider, search: str) -> pa.Table:
    """(batch, row) of every row whose text or medium the search names."""
    con = decider.con
    con.execute(f"create table named as {FOUND[search]}")
    (count,) = database.rows(con, "select count(*) as uids from named")
    uids = {"media": ["media_uid"], "texts": ["text_uid"]}.get(search, ["media_uid", "text_uid"])

    def read(batch: int) -> pa.Table:
        table = decider.rows.read(batch, uids)
        table = table.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.int64)))
        return table.append_column("batch", pa.array(np.full(table.num_rows, batch, dtype=np.int32)))

    pieces = [_PLACES.empty_table()]
    for together in _together(decider, read) if count["uids"] else ():
        con.register("pool_uids", together)
        is_named = " or ".join(f"{uid} in (select uid from named)" for uid in uids)
        pieces.append(database.arrow(con, f"select batch, row from pool_uids where {is_named}").cast(_PLACES))
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
