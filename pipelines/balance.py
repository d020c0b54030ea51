"""Balancing as part of the policy: which texts count, the probability of each, and quotas of groups.

All kinds come down to one number for a text, its keep probability, and to one comparison with its draw. Counts depend
on the policy, since only texts that passed the rules above count, so they are no signal; they are sums over any cut of
the pool (`EntryCounts`), made in one pass over the lists of ids, the probabilities in a second one. The memory that
this takes is that of the counts.

Where a policy balances twice, the second time sees `draw / keep_probability`: of those that the first one kept, that is
again uniform between 0 and 1, so the second choice does not favour what the first one thinned out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.balance import EntryCounts, KeepProbability, temperature_quotas, thresholds
from curation.policy import Balance
from pipelines import database
from pipelines.row_wise import group_key, is_true
from pipelines.yaml_place import RecipeError

if TYPE_CHECKING:
    from pipelines.decide import Decider

PROBABILITY = "tamis__probability_"
"""Begins the name of the column with a balance's keep probabilities; its place in the policy ends it."""
_IDS = pa.list_(pa.int32())
SHARES = pa.schema({"group_key": pa.string(), "share": pa.float64()})


def columns_read(item: Balance) -> list[str]:
    """Names that a balance reads."""
    keys = [item.entries] if item.by is None else database.columns_of(item.by)
    return [*database.columns_of(item.where), *keys, "draw", *(["entry_language"] if item.per_language else [])]


def balanced_by(item: Balance) -> list[tuple[str, str, str]]:
    """Field, SQL expression and wanted type of what a recipe's check has to bind beside `where`."""
    if item.by is not None:
        return [
            ("by", f"({item.by}\n)::varchar", "VARCHAR"),
            ("by", f"({item.by}\n) is not null and draw < 1", "BOOLEAN"),
        ]
    language = " + len(entry_language)" if item.per_language else ""
    return [("entries", f"len({item.entries}::integer[]) + draw{language}", "DOUBLE")]


def prior(places: Sequence[int]) -> str:
    """SQL: the keep probability by the balances at these places of the policy; null where none speaks of the row."""
    names = [f"{PROBABILITY}{place}" for place in places]
    if not names:
        return "null::double"
    product = " * ".join(f"coalesce({name}, 1.0)" for name in names)
    return f"case when coalesce({', '.join([*names, 'null'])}) is not null then {product} end"


def solve_balance(decider: Decider, n: int, item: Balance) -> None:
    """Find what `probabilities` needs: the counts of the entries, or the share of each group that stays."""
    scope = is_true(item.where)
    earlier = [k for k, other in enumerate(decider.policy[:n]) if isinstance(other, Balance)]
    unused = f"draw / coalesce({prior(earlier)}, 1.0)"

    def drawn(batch: int) -> pa.Table:
        columns = {"scope": scope, "group_key": group_key(item.by or ""), "unused_draw": unused}
        found, passed = decider.asked(batch, n, decider.reads[n], columns)
        found = found.filter(pc.and_(pc.and_(found.column("scope"), passed), pc.is_valid(found.column("group_key"))))
        if item.t is None:
            return found.drop_columns(["scope"])
        return found.group_by("group_key").aggregate([([], "count_all")]).rename_columns(["group_key", "texts"])

    def counted(batch: int) -> pa.Table:
        found, passed = decider.asked(
            batch, n, [name for name in database.columns_of(item.where) if name in decider.known], {"scope": scope}
        )
        names = [item.entries, *(["entry_language"] if item.per_language else [])]
        table = decider.rows.read(batch, names)
        language = table.column("entry_language") if item.per_language else pa.nulls(table.num_rows, pa.string())
        matched = pa.table({"entries": _ids(table.column(item.entries)), "language": language})
        return matched.filter(pc.and_(found.column("scope"), passed))

    if item.by is not None:
        for batch, found in decider.each(drawn):
            decider.fill("grouped", batch, found)
        shares = _shares(decider.con, item) if decider.sizes else SHARES.empty_table()
        decider.drop("grouped")
        decider.solved[n] = {"shares": shares}
        return
    counts = EntryCounts()
    for _, found in decider.each(counted):
        if not item.per_language:
            counts.add(found.column("entries"))
            continue
        # languages one by one, in a fixed order; an entry that texts of two languages match is a mistake
        for name in sorted(pc.unique(found.column("language")).to_pylist(), key=lambda each: (each is not None, each)):
            spoken = pc.equal(found.column("language"), name) if name else pc.is_null(found.column("language"))
            counts.add(found.column("entries").filter(spoken), name)
    try:
        by_language = thresholds(counts, item.t or 1, item.per_language)
    except ValueError as error:
        raise RecipeError(f"the rule {item.name!r}: {error}") from error
    decider.solved[n] = {"keep": KeepProbability(counts, by_language)}


def probabilities(decider: Decider, table: pa.Table, n: int, item: Balance) -> pa.Array:
    """The keep probability of each row of `table` by this balance alone; null where it does not speak of the row."""
    key = group_key(item.by) if item.by is not None else "null"
    with decider.candidates(table) as con:
        found = database.arrow(con, f"select {is_true(item.where)} as scope, {key} as key from candidates")
    solved = decider.solved[n]
    if item.by is None:
        keys = _ids(table.column(item.entries))
        matched = pc.fill_null(pc.greater(pc.list_value_length(keys), 0), False)
        share = solved["keep"](keys)
    else:
        keys = found.column("key")
        matched = pc.is_valid(keys)
        place = pc.index_in(keys, solved["shares"].column("group_key").combine_chunks())
        share = pc.fill_null(pc.take(solved["shares"].column("share").combine_chunks(), place), 1.0)
    unmatched = pa.scalar(1.0 if item.no_match == "keep" else 0.0)
    probability = pc.if_else(matched, share, unmatched)
    return pc.if_else(found.column("scope"), probability, pa.scalar(None, pa.float64()))


def _ids(entries: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of ids as whole numbers of 32 bits, which they mostly are."""
    return entries if entries.type == _IDS else entries.cast(_IDS)


def _shares(con: database.Connection, item: Balance) -> pa.Table:
    """The part of each group's texts, by their unused draws, that stays. in: grouped (group_key, unused_draw; with `t`
    texts: how many a batch has)"""
    texts = "sum(texts)::bigint" if item.t is not None else "count(*)"
    sizes = database.arrow(
        con, f"select group_key, {texts} as texts from grouped group by group_key order by group_key"
    )
    counts = sizes.column("texts").to_numpy()
    if item.t is not None:
        return pa.table([sizes.column("group_key"), np.minimum(1.0, item.t / counts)], schema=SHARES)
    allowed = np.minimum(item.most, counts) if item.most is not None else counts
    if item.exponent is not None and item.fraction is not None:
        allowed = temperature_quotas(counts, item.exponent, item.fraction * counts.sum())
    con.register("found", pa.table({"group_key": sizes.column("group_key"), "allowed": pa.array(allowed, pa.int64())}))
    shares = database.arrow(con, database.query("select/quota"))
    con.unregister("found")
    return shares
