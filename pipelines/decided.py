"""Decisions as they are stored, and the view that reads them.

A part holds for each text one bit for every rule, set where the rule rejects it, and the values that the rejecting
rules saw, each in its own type. The names of the rules, and the values as JSON, which few want of all rows, are made of
these when they are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from curation.policy import (
    Balance,
    Decontaminate,
    Dedupe,
    Gate,
    Policy,
    PolicyItem,
    Quota,
    Rule,
    Top,
    Weight,
    sql_literal,
)
from curation.table import open_part
from pipelines import balance, database
from pipelines.rule_sql import PREFIX, balances, double, finite, sparse_names
from pipelines.select_duplicates import KINDS, gives

MAX_RULES = 63
"""Bits of a whole number without its sign."""
SAW = "saw__"
"""Begins the name of a stored value that a rule saw."""
FIXED = ("text_uid", "draw")
"""Columns that are stored for every row."""
DECIDED = pa.schema(
    [
        ("text_uid", pa.string()),
        ("kept", pa.bool_()),
        ("rejected_by", pa.list_(pa.string())),  # names of all rules that reject the row, in the policy's order
        ("saw", pa.list_(pa.string())),  # for each of them the values it saw, as JSON
        ("duplicate_of", pa.string()),  # sample_uid of the group's survivor, null for the survivor itself
        ("text_duplicate_of", pa.string()),  # text_uid of the survivor of its group of near-duplicate texts
        ("semantic_duplicate_of", pa.string()),  # sample_uid (of text embeddings: text_uid) of what it is too like
        ("semantic_similarity", pa.float64()),  # cosine of the two
        ("evaluation_set", pa.string()),  # that holds the text or its picture
        ("evaluation_item", pa.string()),
        ("evaluation_match", pa.string()),  # kind: sha256, pixel_hash, picture (same), ..., text, embedding
        ("evaluation_distance", pa.int32()),  # bits; null of texts and embeddings
        ("evaluation_similarity", pa.float64()),  # Jaccard or cosine; null of pictures
        ("keep_probability", pa.float64()),  # of balancing; null where the policy does not balance the row
        ("draw", pa.float64()),
        ("sampling_weight", pa.float64()),  # product of the policy's weights; null where it has none
    ]
)
"""The view `decided`; the view `decisions` adds sample_uid, media_uid and duplicate_group."""
LATER = tuple(field for field in DECIDED if field.name not in ("text_uid", "kept", "rejected_by", "saw"))
"""Columns of which a part holds those that the policy gives a value; the others are null."""


SQL_TYPES = {pa.string(): "varchar", pa.float64(): "double", pa.int32(): "integer"}


@dataclass(frozen=True)
class Asked:
    """A policy as it was asked: which of the columns that there were each rule reads, and the cuts that were found."""

    policy: list[PolicyItem]
    reads: list[list[str]]
    cuts: Mapping[int, float | None]

    def facts(self) -> dict[str, Any]:
        """What the footer of a part says of it."""
        return {
            "rules": [item.name for item in self.policy],
            "policy": [item.model_dump() for item in self.policy],
            "reads": self.reads,
            "cuts": {str(n): cut for n, cut in self.cuts.items()},
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Asked:
        """The policy that a footer describes. Raises KeyError for decisions of another layout."""
        cuts = {int(n): cut for n, cut in facts["cuts"].items()}
        return cls(TypeAdapter(Policy).validate_python(facts["policy"]), facts["reads"], cuts)

    def values(self, n: int) -> list[str]:
        """Columns that tell what rule `n` saw."""
        match self.policy[n]:
            case Quota() as quota:
                per = [name for name in database.columns_of(quota.per) if name in self.reads[n]]
                return [*per, *sparse_names(n, quota)]
            case Dedupe() | Decontaminate() as item:
                return sparse_names(n, item)
            case Balance():
                return [f"{balance.PROBABILITY}{k}" for k in balances(self.policy, n + 1)]
            case Gate():  # it rejects nothing
                return []
        return self.reads[n]

    def stored(self, table: pa.Table, answers: pa.Table) -> pa.Table:
        """What a part holds: each value where a rule that saw it rejects the row, and null elsewhere.

        table: text_uid and the columns that the rules saw. answers: `rejections` (one bit for each rule that
        rejects the row), and `later_fields`.
        """
        bits = answers.column("rejections").to_numpy()
        columns = {"text_uid": table.column("text_uid"), "kept": pa.array(bits == 0)}
        seen_by: dict[str, int] = {}
        for n in range(len(self.policy)):
            for name in self.values(n):
                seen_by[name] = seen_by.get(name, 0) | 1 << n
        columns |= {name: answers.column(name) for name in answers.column_names}
        for name, rules in seen_by.items():
            if name.startswith(PREFIX) and not name.startswith(balance.PROBABILITY):
                columns[SAW + name] = table.column(name)  # null elsewhere already
            elif name not in FIXED:
                column = table.column(name)
                rejected = pa.array(bits & rules != 0)
                columns[SAW + name] = pc.if_else(rejected, column, pa.scalar(None, column.type))
        return pa.table(columns)

    def later_fields(self) -> dict[str, str]:
        """Name -> SQL of what the policy says beside yes and no. in: what the rules over many rows gave"""
        fields: dict[str, str] = {}
        for name, kind in KINDS.items():
            names = [f"{PREFIX}{name}_{n}" for n, item in enumerate(self.policy) if name in gives(item)]
            fields |= {name: f"coalesce({', '.join([*names, 'null'])})::{kind}"} if names else {}
        places = balances(self.policy, len(self.policy))
        fields |= {"keep_probability": f"({balance.prior(places)})::double"} if places else {}
        fields |= {"draw": "draw::double"} if any("draw" in reads for reads in self.reads) else {}
        weights = [finite(item.value) for item in self.policy if isinstance(item, Weight)]
        fields |= {"sampling_weight": f"({' * '.join(weights)})::double"} if weights else {}
        return fields

    def view(self, source: str, there: Collection[str]) -> str:
        """SQL: the rows of parts (the view `source` with the columns `there`) with the columns of `DECIDED`."""
        names = dict.fromkeys(name for n in range(len(self.policy)) for name in self.values(n))
        # the decisions' own columns get other names while expressions of the policy are asked
        later_there = [field.name for field in LATER if field.name in there]
        renamed = [f"{name} as {PREFIX}out_{name}" for name in ("text_uid", "kept", "rejections", *later_there)]
        renamed += [database.quoted(name) for name in FIXED if name in there]
        renamed += [f"{database.quoted(SAW + name)} as {database.quoted(name)}" for name in names if name not in FIXED]
        rejects = [f"{PREFIX}out_rejections & {1 << n} <> 0" for n in range(len(self.policy))]
        rules = "".join(
            f"case when {rejects[n]} then {database.literal(item.name)} end, " for n, item in enumerate(self.policy)
        )
        saw = "".join(f"case when {rejects[n]} then {self._saw(n)} end, " for n in range(len(self.policy)))
        found = "lambda v: v is not null"
        later = ", ".join(
            f"{PREFIX}out_{each.name} as {each.name}"
            if each.name in there
            else f"null::{SQL_TYPES[each.type]} as {each.name}"
            for each in LATER
        )
        return (
            f"select {PREFIX}out_text_uid as text_uid, {PREFIX}out_kept as kept, "
            f"list_filter([{rules}null], {found})::varchar[] as rejected_by, "
            f"list_filter([{saw}null], {found})::varchar[] as saw, {later} "
            f"from (select {', '.join(renamed)} from {source})"
        )

    def _saw(self, n: int) -> str:
        """SQL: the values that a rule saw, and what it asked of them, as JSON."""
        fields = {name: database.quoted(name) for name in self.reads[n]}
        match self.policy[n]:
            case Rule() as rule:
                fields |= {f"${name}": sql_literal(value) for name, value in rule.at.items()}
            case Top() as top:
                if self.reads[n] != [top.by]:
                    fields["value"] = finite(top.by)
                fields["cut"] = double(self.cuts[n])
            case Quota() as quota:
                figures = {name: f"{PREFIX}{name}_{n}" for name in ("num", "place")}
                fields = {"per": f"({quota.per}\n)", **figures, "at_most": str(quota.at_most)}
            case Weight() as weight:
                fields["value"] = finite(weight.value)
            case Dedupe() | Decontaminate() as item:
                fields = {name: f"{PREFIX}{name}_{n}" for name in gives(item)}
            case Balance():
                fields = {"keep_probability": balance.prior(balances(self.policy, n + 1)), "draw": "draw"}
            case Gate():
                fields = {}
        pairs = ", ".join(f"{database.literal(name)}: {value}" for name, value in fields.items())
        return f"to_json({{{pairs}}})::varchar" if fields else "'{}'"


def hardly_repeat(decisions: pa.Table) -> list[str]:
    """Columns of stored decisions for which a dictionary is work for nothing: uids and measured numbers."""
    return [
        field.name
        for field in decisions.schema
        if field.name.endswith(("_uid", "duplicate_of")) or pa.types.is_floating(field.type)
    ]


def create_decided(con: database.Connection, name: str, files: Sequence[Path]) -> None:
    """View `name` (schema `DECIDED`) over parts of decisions; empty without files."""
    if not files:
        database.create_view(con, name, [], DECIDED)
        return
    there = pq.read_schema(files[0]).names
    database.create_view(con, f"{name}_parts", files)
    if "rejected_by" in there:  # decisions of version 2 and before hold all of it as it is shown
        sql = f"select {', '.join(DECIDED.names)} from {database.quoted(name + '_parts')}"
    else:
        sql = Asked.of(open_part(files[0]).stats).view(database.quoted(f"{name}_parts"), there)
    con.execute(f"create view {database.quoted(name)} as {sql}")
