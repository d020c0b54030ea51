"""Rules over many rows, brought down to figures with which every row can be judged where it lies.

`top` becomes a cut, `quota` and `dedupe` the rows that they reject, `balance` the counts of the entries. Each is solved
after the rules above it, exactly, by one pass over the batches and SQL over what the batches gave.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.policy import Balance, Dedupe, Quota, Top
from pipelines import database
from pipelines.decide import PREFIX, Decider, finite
from pipelines.sparse import Sparse
from pipelines.views import DUPLICATES

BATCHES_AT_A_TIME = 20
"""Batches whose media are looked up among the duplicates together."""


def solve(decider: Decider) -> None:
    """Find the figures of every rule, in the policy's order."""
    for n, item in enumerate(decider.policy):
        match item:
            case Top():
                _solve_top(decider, n, item)
            case Quota():
                _solve_quota(decider, n, item)
            case Dedupe():
                _solve_dedupe(decider, n, item)
            case Balance():
                _solve_balance(decider, n, item)


def _fill(decider: Decider, name: str, batch: int, rows: pa.Table) -> None:
    """Append the rows of a batch to table `name` of the common database, with the number of the batch."""
    con = decider.con
    con.register("incoming", rows)
    statement = f"insert into {name}" if name in decider.tables else f"create table {name} as"
    decider.tables.add(name)
    con.execute(f"{statement} select {batch}::integer as batch, * from incoming")
    con.unregister("incoming")


def _drop(decider: Decider, *names: str) -> None:
    for name in names:
        decider.tables.discard(name)
        decider.con.execute(f"drop table if exists {name}")


# top ------------------------------------------------------------------------------------------------------------------


def _solve_top(decider: Decider, n: int, item: Top) -> None:
    def scores(batch: int) -> pa.Table:
        return _scores(decider, batch, n, item)

    total = 0
    for batch, found in decider.each(scores):
        total += found.num_rows
        _fill(decider, "scored", batch, found.select(["score"]))
    # DataComp multiplies in floating point; ours is exact, so that 0.28 of 100 rows are 28 and not 29
    broken = math.ceil(Fraction(repr(item.fraction)) * total)
    place = min(total, int(total * item.fraction) + 1) if item.ties == "keep" else broken
    cut = database.rows(decider.con, database.query("select/top"), {"place": place}) if total else []
    solved: dict[str, Any] = {"cut": None, "cut_uid": None, "total": total}
    if cut:
        solved["cut"] = cut[0]["cut"]
        among_ties = place - cut[0]["num_above"]
        if item.ties == "break" and among_ties < cut[0]["num_equal"]:
            solved["cut_uid"] = _last_of_ties(decider, n, item, cut[0]["cut"], among_ties)
    decider.solved[n] = solved
    _drop(decider, "scored")


def _scores(decider: Decider, batch: int, n: int, item: Top) -> pa.Table:
    """text_uid and score of the rows that count."""
    columns = [*decider.reads[n], "text_uid"]
    score = {"text_uid": "text_uid", "score": finite(item.by)}
    found, passed = decider.asked(batch, n if item.among == "passed" else 0, columns, score)
    counted = pc.is_valid(found.column("score"))
    return found.filter(pc.and_(counted, passed) if item.among == "passed" else counted)


def _last_of_ties(decider: Decider, n: int, item: Top, cut: float, place: int) -> str:
    """text_uid of the last row at the cut that stays: the `place`-th of them in the order of text_uid."""
    with_ties = database.rows(
        decider.con, "select distinct batch from scored where score = $cut order by batch", {"cut": cut}
    )

    def ties(batch: int) -> pa.Table:
        found = _scores(decider, batch, n, item)
        return found.filter(pc.equal(found.column("score"), cut)).select(["text_uid"])

    for batch, found in decider.each(ties, [row["batch"] for row in with_ties]):
        _fill(decider, "ties", batch, found)
    ordered = "select text_uid from ties order by text_uid limit 1 offset $skipped"
    (last,) = database.rows(decider.con, ordered, {"skipped": place - 1})
    _drop(decider, "ties")
    return str(last["text_uid"])


# quota ----------------------------------------------------------------------------------------------------------------


def _solve_quota(decider: Decider, n: int, item: Quota) -> None:
    """Hashes of the values tell which may have too many rows; only rows of those are looked at closely."""
    until = n if item.among == "passed" else 0

    def hashes(batch: int) -> pa.Table:
        hashed = {"value": f"case when ({item.per}\n) is not null then hash({item.per}\n) end"}
        found, passed = decider.asked(batch, until, decider.reads[n], hashed)
        counted = pc.is_valid(found.column("value"))
        return found.filter(pc.and_(counted, passed) if item.among == "passed" else counted)

    for batch, found in decider.each(hashes):
        _fill(decider, "hashed", batch, found)
    many = (
        database.arrow(
            decider.con, "select value from hashed group by value having count(*) > $at_most", {"at_most": item.at_most}
        )
        if decider.sizes
        else pa.table({"value": pa.array([], pa.uint64())})
    )
    unit = "sample_uid" if item.unit == "samples" else "text_uid"
    order = f"{item.prefer}, " if item.prefer else ""
    keyed = f"md5({item.seed} || ':' || {unit}), {unit}, text_uid"

    def crowded(batch: int) -> pa.Table:
        columns = [*decider.reads[n], "text_uid", "sample_uid"]
        table = decider.table(batch, columns, 0).append_column(f"{PREFIX}passed", _passed(decider, batch, until))
        wanted = dict.fromkeys([*decider.reads[n], "text_uid", "sample_uid"])
        names = ", ".join(database.quoted(name) for name in wanted)
        with decider.candidates(table) as con:
            con.register("many", many)
            found = database.arrow(
                con,
                f"select {PREFIX}row as row, {PREFIX}passed as counted, {names} from candidates "
                f"where ({item.per}\n) is not null and hash({item.per}\n) in (select value from many) order by row",
            )
            con.unregister("many")
        return found if item.more == "drop" else found.filter(found.column("counted"))

    for batch, found in decider.each(crowded) if many.num_rows else ():
        _fill(decider, "members", batch, found)
    if not many.num_rows:
        rejected = pa.table({"batch": [], "row": [], "num": [], "place": []}, schema=_REJECTED)
    else:
        decider.con.execute(
            f"create view crowded as select batch, row, ({item.per}\n) as per, {unit} as unit_uid, counted, "
            f"row_number() over (partition by ({item.per}\n) order by {order}{keyed}) as place from members"
        )
        parameters = {"at_most": item.at_most, "thin": item.more == "thin"}
        rejected = database.arrow(decider.con, database.query("select/quota"), parameters).cast(_REJECTED)
        decider.con.execute("drop view crowded")
    source = Sparse(rejected)
    decider.sparse |= {f"{PREFIX}{name}_{n}": (source, name) for name in ("num", "place")}
    decider.solved[n] = {}
    _drop(decider, "hashed", "members")


_REJECTED = pa.schema([("batch", pa.int32()), ("row", pa.int64()), ("num", pa.int64()), ("place", pa.int64())])


def _passed(decider: Decider, batch: int, until: int) -> pa.Array:
    """Which rows of a batch passed the rules before `until`; 0 stands for all rows."""
    if until == 0:
        return pa.array(np.ones(decider.sizes[batch], dtype=bool))
    return decider.asked(batch, until, [], {})[1]


# dedupe ---------------------------------------------------------------------------------------------------------------


def _solve_dedupe(decider: Decider, n: int, item: Dedupe) -> None:
    """Only rows whose medium has duplicates are looked at."""
    con, groups = decider.con, _groups(decider)
    columns = list(dict.fromkeys([*decider.reads[n], "text_uid", "sample_uid", "media_uid"]))

    def members(batch: int) -> pa.Table:
        table = decider.rows.read(batch, columns)
        table = table.append_column(f"{PREFIX}row", pa.array(np.arange(table.num_rows)))
        table = table.append_column(f"{PREFIX}group", groups.column("duplicate_group", batch, table.num_rows))
        return table.append_column(f"{PREFIX}passed", _passed(decider, batch, n)).take(pa.array(groups.rows(batch)))

    for batch, found in decider.each(members, sorted({*groups.table.column("batch").to_pylist()})):
        _fill(decider, "members", batch, found)
    losers = _LOSERS.empty_table()
    if groups.table.num_rows:
        con.execute(
            "create view group_members as select *, row_number() over (order by place_in_order) as place from ("
            f"select {PREFIX}group as duplicate_group, media_uid, sample_uid, "
            f"bool_or({PREFIX}passed) over (partition by media_uid) as passed, "
            f"row_number() over (order by {item.prefer}, media_uid) as place_in_order from members "
            "qualify row_number() over (partition by media_uid order by text_uid) = 1)"
        )
        losers = database.arrow(
            con,
            f"with survivors as ({database.query('select/survivors')}) select m.batch, m.{PREFIX}row as row, "
            f"m.{PREFIX}group as duplicate_group, s.survivor_sample as duplicate_of from members m "
            f"join survivors s on s.duplicate_group = m.{PREFIX}group where s.survivor <> m.media_uid",
        ).cast(_LOSERS)
        con.execute("drop view group_members")
    _drop(decider, "members")
    source = Sparse(losers)
    decider.sparse |= {f"{PREFIX}{name}_{n}": (source, name) for name in ("duplicate_group", "duplicate_of")}
    decider.solved[n] = {}


def _groups(decider: Decider) -> Sparse:
    """The duplicate group of each row whose medium has one."""
    con = decider.con
    if isinstance(decider.duplicates, pa.Table):
        con.register("found_duplicates", decider.duplicates)
    else:
        database.create_view(con, "found_duplicates", decider.duplicates, DUPLICATES)
    con.execute(
        "create table grouped as select media_uid, duplicate_group from found_duplicates "
        "where duplicate_group is not null"
    )
    con.execute("drop view found_duplicates")
    (count,) = database.rows(con, "select count(*) as members from grouped")
    pieces = [_GROUPS.empty_table()]

    def media(batch: int) -> pa.Table:
        uids = decider.rows.read(batch, ["media_uid"])
        rows = pa.array(np.arange(uids.num_rows, dtype=np.int64))
        batches = pa.array(np.full(uids.num_rows, batch, dtype=np.int32))
        return pa.table({"batch": batches, "row": rows, "media_uid": uids.column(0)})

    waiting: list[pa.Table] = []
    for batch, uids in decider.each(media) if count["members"] else ():
        waiting.append(uids)
        if len(waiting) == BATCHES_AT_A_TIME or batch == len(decider.sizes) - 1:
            con.register("pool_media", pa.concat_tables(waiting))
            joined = "select batch, row, duplicate_group from pool_media join grouped using (media_uid)"
            pieces.append(database.arrow(con, joined).cast(_GROUPS))
            con.unregister("pool_media")
            waiting = []
    _drop(decider, "grouped")
    return Sparse(pa.concat_tables(pieces))


_GROUPS = pa.schema([("batch", pa.int32()), ("row", pa.int64()), ("duplicate_group", pa.string())])
_LOSERS = pa.schema([*_GROUPS, ("duplicate_of", pa.string())])


# balance --------------------------------------------------------------------------------------------------------------


def _solve_balance(decider: Decider, n: int, item: Balance) -> None:
    scope, entries = f"coalesce(({item.where}\n), false)", f"coalesce({item.entries}, [])"

    def counts(batch: int) -> pa.Table:
        found, passed = decider.asked(batch, n, decider.reads[n], {"entries": entries, "scope": scope})
        matched = found.append_column("passed", passed).filter(found.column("scope"))
        with decider.candidates(matched, "matched") as con:
            return database.arrow(con, database.query("select/entry_counts"))

    for batch, found in decider.each(counts):
        _fill(decider, "batch_counts", batch, found)
    total = "select entry, sum(texts)::bigint as texts from batch_counts group by entry order by entry"
    none = pa.table({"entry": pa.array([], pa.int64()), "texts": pa.array([], pa.int64())})
    decider.solved[n] = {"counts": database.arrow(decider.con, total) if decider.sizes else none}
    _drop(decider, "batch_counts")
