"""Balancing as part of the policy: which texts count, the probability of each, and quotas of groups.

All kinds come down to one number for a text, its keep probability, and to one comparison with its draw. Counts depend
on the policy, since only texts that passed the rules above count, so they are no signal; they are sums over any cut of
the pool (`EntryCounts`), made in one pass over the lists of ids, the probabilities in a second one. The memory that
this takes is that of the counts.

Where a policy balances twice, the second time sees `draw / keep_probability`: of those that the first one kept, that is
again uniform between 0 and 1, so the second choice does not favour what the first one thinned out.
"""

from __future__ import annotations

import pyarrow as pa

from curation.balance import EntryCounts, KeepProbability, temperature_quotas, thresholds
from curation.policy import Balance
from pipelines import database
from pipelines.yaml_place import RecipeError

ROWS_AT_A_TIME = 1_000_000
FUNCTION = "keep_probability_of"


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


def balanced_work(con: database.Connection, item: Balance, n: int, passed: str) -> str:
    """SQL of the next `work`: `keep_probability` times this balance's, and `pass_<n>`. `finish` when it has run.

    in: work (text_uid, the columns read, draw, keep_probability, pass_0 ...); passed = SQL, passed all rules above
    """
    scope = f"coalesce(({item.where}\n), false)"
    if item.by is None:
        _make_function(con, item, f"{scope} and {passed}")
        share, matched, source = f"{FUNCTION}({item.entries}::integer[])", f"len({item.entries}) > 0", "work"
    else:
        _make_shares(con, item, f"{scope} and {passed}")
        share, matched = "coalesce(s.share, 1.0)", "w.group_key is not null"
        source = f"(select *, ({item.by})::varchar as group_key from work) w left join shares s using (group_key)"
    unmatched = "1.0" if item.no_match == "keep" else "0.0"
    probability = f"case when {scope} then case when {matched} then {share} else {unmatched} end end"
    extra = "" if item.by is None else "group_key, share, "
    return (
        f"select * exclude ({extra}keep_probability, this_probability), "
        "case when this_probability is null then keep_probability "
        "else coalesce(keep_probability, 1.0) * this_probability end as keep_probability, "
        "this_probability is null or coalesce(draw / coalesce(keep_probability, 1.0) < this_probability, false) "
        f"as pass_{n} from (select *, {probability} as this_probability from {source})"
    )


def finish(con: database.Connection, item: Balance) -> None:
    """Drop what `balanced_work` made."""
    if item.by is None:
        con.remove_function(FUNCTION)
    else:
        con.execute("drop table shares")


def entry_counts(con: database.Connection, item: Balance, counted: str) -> EntryCounts:
    """Texts for each entry among the rows of `work` for which the SQL predicate `counted` is true."""
    counts = EntryCounts()
    language = "entry_language" if item.per_language else "null::varchar"
    names = database.rows(con, f"select distinct {language} as language from work where {counted} order by all")
    for name in (row["language"] for row in names):
        sql = f"select {item.entries}::integer[] as entries from work where {counted}"
        sql += f" and {language} is not distinct from $name"
        for batch in database.batches(con, sql, {"name": name}, ROWS_AT_A_TIME):
            counts.add(batch.column("entries"), name)
    return counts


def _make_function(con: database.Connection, item: Balance, counted: str) -> None:
    counts = entry_counts(con, item, counted)
    try:
        by_language = thresholds(counts, item.t or 1, item.per_language)
    except ValueError as error:
        raise RecipeError(f"the rule {item.name!r}: {error}") from error
    database.create_list_function(con, FUNCTION, KeepProbability(counts, by_language))


def _make_shares(con: database.Connection, item: Balance, counted: str) -> None:
    """Table `shares` (group_key, share): the part of each group's texts, by their unused draws, that stays."""
    con.execute(
        f"create table grouped as select ({item.by})::varchar as group_key, "
        f"draw / coalesce(keep_probability, 1.0) as unused_draw from work where {counted} and ({item.by}) is not null"
    )
    sizes = database.rows(con, "select group_key, count(*) as texts from grouped group by group_key order by group_key")
    if item.t is not None:
        found = [{"group_key": row["group_key"], "share": min(1.0, item.t / row["texts"])} for row in sizes]
        con.register("found", pa.Table.from_pylist(found, pa.schema({"group_key": pa.string(), "share": pa.float64()})))
        con.execute("create table shares as select * from found")
    else:
        counts = [row["texts"] for row in sizes]
        allowed = [min(item.most, count) for count in counts] if item.most is not None else None
        if item.exponent is not None and item.fraction is not None:
            allowed = temperature_quotas(counts, item.exponent, item.fraction * sum(counts))
        quotas = [{"group_key": row["group_key"], "allowed": n} for row, n in zip(sizes, allowed or (), strict=True)]
        con.register(
            "found", pa.Table.from_pylist(quotas, pa.schema({"group_key": pa.string(), "allowed": pa.int64()}))
        )
        con.sql(database.query("select/quota")).create("shares")
    con.unregister("found")
    con.execute("drop table grouped")
