"""Select: the policy over all signals. Every rule is asked about every text; each rejection is kept with its values."""

from __future__ import annotations

from collections import Counter
from typing import Any

from curation.policy import Balance, Dedupe, PolicyItem, Rule, Top
from curation.step import digest
from curation.table import find_part, open_part, write_part
from pipelines import balance, database
from pipelines.stage import Run
from pipelines.views import DECISIONS, open_store

VERSION = 1
"""Of the rules in this file and in sql/select/ that decide what is kept."""
TABLE = "decisions"


def select_key(run: Run) -> str:
    """Digest of the policy and of just those tables that it reads."""
    names = {name for item in run.round.policy for name in columns_read(item)}
    signals = run.recipe.signals_until(run.round_index)
    tables = {signal.table_name() for signal in signals if names & set(signal.writes().names)}
    tables = {f"signal_{table}" for table in tables} | {"media"} & set(run.state.tables)
    identities = {
        table: [open_part(path).identity for path in run.store.files(run.state, table)]
        for table in sorted(tables | {"duplicates"})
    }
    identities["texts"] = [each.texts.identity for each in run.store.pool()]
    return digest("select", VERSION, run.round.policy, identities)


def select(run: Run) -> dict[str, Any]:
    """Decide about every text of the pool; reuses the stored decisions where policy and signals are the same."""
    key = select_key(run)
    part = find_part(run.store.table(TABLE), 0, key)
    reused = part is not None
    if part is None:
        con = open_store(run.store, run.state)
        decisions = decide(con, run.round.policy)
        con.close()
        rejections: Counter[str] = Counter()
        for names in decisions.column("rejected_by").to_pylist():
            rejections.update(names)
        kept = sum(decisions.column("kept").to_pylist())
        rules = [item.name for item in run.round.policy]
        stats = {"kept": kept, "rules": rules, "rejected_by": dict(sorted(rejections.items()))}
        part = write_part(run.store.table(TABLE), 0, key, decisions, stats=stats)
    run.state.tables[TABLE] = [run.store.relative(part.path)]
    run.state.policy_name = run.round.name
    return {
        "texts": part.num_rows,
        "kept": part.stats["kept"],
        "parts_run": int(not reused),
        "parts_reused": int(reused),
    }


def columns_read(item: PolicyItem) -> list[str]:
    """Names that a rule reads, in order of appearance (the arguments of lambdas among them)."""
    match item:
        case Rule():
            return database.columns_of(item.keep)
        case Top():
            return database.columns_of(item.by)
        case Dedupe():
            return database.columns_of(f"row_number() over (order by {item.prefer})")
        case Balance():
            return balance.columns_read(item)


def decide(con: database.Connection, policy: list[PolicyItem]) -> Any:
    """The decisions of `policy` over the view `candidates`, as an Arrow table of `DECISIONS`, ordered by text_uid.

    `work` grows by a column `pass_<n>` for each rule; `passed` is the conjunction of those so far.
    """
    known = {str(row["column_name"]) for row in database.rows(con, "describe candidates")}
    needed = {name for item in policy for name in columns_read(item) if name in known} - {
        "text_uid",
        "sample_uid",
        "media_uid",
    }
    plain = [f"coalesce(({item.keep}\n), false) as pass_{n}" for n, item in enumerate(policy) if isinstance(item, Rule)]
    names = [f"c.{database.quoted(name)}" for name in sorted(needed)]
    con.execute(
        f"create table work as select {', '.join(['c.text_uid', 'c.sample_uid', 'c.media_uid', *names, *plain])}, "
        "d.duplicate_group, null::varchar as duplicate_of, null::double as keep_probability "
        "from candidates c left join duplicates d on d.media_uid = c.media_uid"
    )
    for n, item in enumerate(policy):
        passed = " and ".join([f"pass_{i}" for i in range(n)]) or "true"
        match item:
            case Top():
                _top(con, item, n, passed)
            case Dedupe():
                _dedupe(con, item, n, passed)
            case Balance():
                _balance(con, item, n, passed)
    verdicts = ", ".join(_verdict(n, item, known) for n, item in enumerate(policy))
    everything = " and ".join(f"pass_{n}" for n in range(len(policy))) or "true"
    draw = "draw" if "draw" in needed else "null::double as draw"
    con.execute(
        f"create table verdicts as select *, list_filter([{verdicts}], lambda v: v is not null) as verdict_list "
        "from work"
    )
    table = database.arrow(
        con,
        f"select text_uid, sample_uid, media_uid, {everything} as kept, "
        "list_transform(verdict_list, lambda v: v.rule)::varchar[] as rejected_by, "
        "list_transform(verdict_list, lambda v: v.saw)::varchar[] as saw, "
        f"duplicate_group, duplicate_of, keep_probability, {draw} from verdicts order by text_uid",
    )
    return table.cast(DECISIONS)


def _verdict(n: int, item: PolicyItem, known: set[str]) -> str:
    """SQL: null where the rule keeps the row, else its name and the values it saw as JSON."""
    columns = {name: database.quoted(name) for name in columns_read(item) if name in known}
    match item:
        case Top():
            columns["value"] = f"({item.by})"
        case Dedupe():
            columns = {name: name for name in ("duplicate_group", "duplicate_of")}
        case Balance():
            columns = {name: name for name in ("keep_probability", "draw")}
    fields = ", ".join(f"{database.literal(name)}: {expression}" for name, expression in columns.items())
    saw = f"to_json({{{fields}}})::varchar" if fields else "'{}'"
    return f"case when not pass_{n} then {{'rule': {database.literal(item.name)}, 'saw': {saw}}} end"


def _replace_work(con: database.Connection, sql: str) -> None:
    con.execute(f"create table next_work as {sql}")
    con.execute("drop table work")
    con.execute("alter table next_work rename to work")


def _top(con: database.Connection, item: Top, n: int, passed: str) -> None:
    con.execute(f"create table scored as select text_uid, ({item.by})::double as score, {passed} as passed from work")
    con.sql(database.query("select/top"), params={"fraction": item.fraction}).create("cut")
    _replace_work(
        con,
        f"select w.*, coalesce(s.score > cut_score or (s.score = cut_score and w.text_uid <= cut_uid), false) "
        f"as pass_{n} from work w join scored s using (text_uid) left join cut on true",
    )
    con.execute("drop table scored")
    con.execute("drop table cut")


def _dedupe(con: database.Connection, item: Dedupe, n: int, passed: str) -> None:
    order = f"{item.prefer}, media_uid"
    con.execute(
        "create table group_members as select *, row_number() over (order by place_in_order) as place from ("
        f"select duplicate_group, media_uid, sample_uid, bool_or({passed}) over (partition by media_uid) as passed, "
        f"row_number() over (order by {order}) as place_in_order from work where duplicate_group is not null "
        "qualify row_number() over (partition by media_uid order by text_uid) = 1)"
    )
    con.sql(database.query("select/survivors")).create("survivors")
    _replace_work(
        con,
        "select w.* exclude (duplicate_of), "
        "case when s.survivor <> w.media_uid then s.survivor_sample end as duplicate_of, "
        f"coalesce(s.survivor = w.media_uid, true) as pass_{n} "
        "from work w left join survivors s using (duplicate_group)",
    )
    con.execute("drop table group_members")
    con.execute("drop table survivors")


def _balance(con: database.Connection, item: Balance, n: int, passed: str) -> None:
    _replace_work(con, balance.balanced_work(con, item, n, passed))
    balance.finish(con, item)
