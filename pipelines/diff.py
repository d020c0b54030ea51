"""Diff: the rows in which two selections differ, each with why: a rule, a signal, the data, balancing or a take-down.

A text that only one side keeps is rejected by rules on the other. The first of these gives the cause:
rule        the two policies have not the same such rule; or it cuts among rows that changed rules let through
signal      the rule is the same and what it reads was computed anew
data        the text, its medium or the rows that it competes with came, went or changed
balance     balancing drew against it (its counts or its t are others)
takedown    its medium was taken down on request
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.policy import Balance, PolicyItem, Rule, Weight
from curation.reasons import Reason
from curation.schema import MEDIA, TEXTS
from pipelines import database
from pipelines.decided import create_decided
from pipelines.rule_sql import columns_read
from pipelines.selections import Selection, find_selection
from pipelines.store import Store

CAUSES = pa.schema([("side", pa.string()), ("rule", pa.string()), ("cause", pa.string())])


@dataclass(frozen=True)
class Difference:
    """Two selections and the rows in which they differ."""

    a: Selection
    b: Selection
    rows: pa.Table
    """text_uid, sample_uid, direction, cause, rule, rejected_by, saw."""
    summary: list[dict[str, Any]]
    """Texts and samples for each direction, cause and rule, most first."""


def diff(store: Store, first: str, second: str) -> Difference:
    """What changed from selection or version `first` to `second`. Raises StoreError where there is no such one."""
    a, b = find_selection(store, first), find_selection(store, second)
    con = database.connect()
    for side, selection in (("a", a), ("b", b)):
        create_decided(con, f"decided_{side}", selection.files(store, "decisions"))
        database.create_view(con, f"texts_{side}", _texts(store, selection), TEXTS)
        database.create_view(con, f"media_{side}", selection.files(store, "media"), MEDIA)
    con.register("causes", pa.Table.from_pylist(causes(a, b), schema=CAUSES))
    con.execute(
        "create view owners as select text_uid, sample_uid from texts_a union select text_uid, sample_uid from texts_b"
    )
    taken_down = " union ".join(
        f"select text_uid from texts_{side} join media_{side} using (sample_uid) "
        f"where media_{side}.reason = {database.literal(Reason.POLICY_TAKEDOWN.value)}"
        for side in ("a", "b")
    )
    con.execute(f"create view taken_down as {taken_down}")
    con.sql(database.query("diff/rows")).create("changed")
    rows = database.arrow(con, "select * from changed order by text_uid")
    summary = database.rows(
        con,
        "select direction, cause, rule, count(*) as texts, count(distinct sample_uid) as samples from changed "
        "group by all order by direction, texts desc, cause, rule",
    )
    con.close()
    return Difference(a, b, rows, summary)


def _texts(store: Store, selection: Selection) -> list[Path]:
    """The texts that a selection read; where a take-down has deleted what was written about media, those of the pool
    stand in for their part."""
    files = selection.files(store, "texts")
    there = [path for path in files if path.exists()]
    return there if len(there) == len(files) else [*there, *store.texts_files()]


def causes(a: Selection, b: Selection) -> list[dict[str, str]]:
    """For each side and rule of its policy, what it means that it rejects what the other side keeps."""
    found = []
    for side, here, there in (("a", a, b), ("b", b, a)):
        items, others = here.items(), there.items()
        for place, item in enumerate(items):
            found.append({"side": side, "rule": item.name, "cause": _cause(here, there, items, others, place)})
    return found


def _cause(
    here: Selection, there: Selection, items: Sequence[PolicyItem], others: Sequence[PolicyItem], place: int
) -> str:
    item = items[place]
    same = next((other for other in others if other.name == item.name), None)
    if same != item:
        return "balance" if isinstance(item, Balance) and isinstance(same, Balance) else "rule"
    if isinstance(item, Balance):
        return "balance"
    if _scored_anew(here, there, [item]):
        return "signal"
    if isinstance(item, Rule | Weight):
        return "data"
    # a cut, a quota or a survivor: it also depends on which other rows came so far
    if list(items[:place]) != list(others[: list(others).index(item)]):
        return "rule"
    return "signal" if _scored_anew(here, there, items[:place]) else "data"


def _scored_anew(here: Selection, there: Selection, items: Sequence[PolicyItem]) -> bool:
    """Whether a signal that the rules read has other values for rows that both sides have.

    Parts are named after what they were made from, so a part of a signal with another name on the other side, while the
    texts and media of that part are the same, was computed by a changed signal.
    """
    names = {name for item in items for name in columns_read(item)}
    for table in here.signals.keys() | there.signals.keys():
        mine, theirs = (each.tables.get(f"signal_{table}", []) for each in (here, there))
        if not names & _columns(here, there, table):
            continue
        for base in range(min(len(mine), len(theirs))):
            same_base = all(
                here.tables.get(name, [])[base : base + 1] == there.tables.get(name, [])[base : base + 1]
                for name in ("texts", "media")
            )
            if same_base and mine[base] != theirs[base]:
                return True
        if bool(mine) != bool(theirs):
            return True
    return False


def _columns(here: Selection, there: Selection, table: str) -> set[str]:
    return set(here.columns.get(table, [])) | set(there.columns.get(table, []))


def heading(difference: Difference, side: str) -> str:
    """One line about a side."""
    selection = difference.a if side == "a" else difference.b
    return f"{side}: {selection.name}" + (f", version {selection.version}" if selection.version else "")
