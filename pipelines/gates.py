"""Gates: whether a rule keeps too little of some group of texts (a language), counted with the decisions.

Each part of the decisions holds in its footer, for every gate of the policy, how many texts of each group came to the
rule that the gate judges and how many it kept; the sums over the parts are what the gate judges, and what the selection
and the version's manifest tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curation.policy import Gate, PolicyItem
from pipelines import database
from pipelines.decide import Decider, blame
from pipelines.row_wise import group_key
from pipelines.stage import Report
from pipelines.yaml_place import RecipeError

Counts = dict[str, list[int]]
"""Group -> texts that came to the rule, texts that it kept."""
UNKNOWN = "unknown"
MAX_GROUPS = 5000
"""More groups than there are languages: the counts stand in the footer of every part of the decisions."""
SHOWN = 8


class GateClosed(RecipeError):
    """A rule keeps too little of some group, and the policy says that nothing is to be packed then."""


@dataclass(frozen=True)
class Judged:
    """What a gate found. counted, kept: texts of all groups together; low: groups that are treated badly."""

    gate: Gate
    groups: Counts
    low: list[str]

    @property
    def counted(self) -> int:
        return sum(counted for counted, _ in self.groups.values())

    @property
    def kept(self) -> int:
        return sum(kept for _, kept in self.groups.values())

    def as_json(self) -> dict[str, Any]:
        """For the selection and the manifest."""
        groups = {name: {"counted": counted, "kept": kept} for name, (counted, kept) in sorted(self.groups.items())}
        settings = self.gate.model_dump()
        return {**settings, "counted": self.counted, "kept": self.kept, "low": self.low, "groups": groups}

    def told(self) -> str:
        """One sentence about the groups that are treated badly."""
        worst = sorted(self.low, key=lambda name: (_share(*self.groups[name]), name))
        named = [
            f"{name} {100 * _share(*self.groups[name]):.1f}% of {self.groups[name][0]:,}" for name in worst[:SHOWN]
        ]
        more = f" and {len(worst) - SHOWN} more" if len(worst) > SHOWN else ""
        return (
            f"the rule {self.gate.of!r} keeps {100 * _share(self.counted, self.kept):.1f}% of {self.counted:,} texts, "
            f"but less than {self.gate.least:g} of that share of {len(worst)} of the groups by {self.gate.per}: "
            f"{', '.join(named)}{more}"
        )


def _share(counted: int, kept: int) -> float:
    return kept / counted if counted else 0.0


def gates_of(policy: Sequence[PolicyItem]) -> list[tuple[int, int, Gate]]:
    """(place of the gate, place of the rule that it judges, gate) of every gate."""
    places = {item.name: n for n, item in enumerate(policy)}
    return [(n, places[item.of], item) for n, item in enumerate(policy) if isinstance(item, Gate)]


def gate_counts(decider: Decider, batch: int, rejections: np.ndarray) -> dict[str, dict[str, Counts]]:
    """For the footer of a part of the decisions: `gates`, gate -> counts in this batch; nothing without gates.

    rejections: for each row a bit for every rule that rejects it. Raises RecipeError where the groups are none: more
    than `MAX_GROUPS`, or SQL that fails on some row.
    """
    bits, gates = rejections.astype(np.int64), gates_of(decider.policy)
    counts = {gate.name: _counts(decider, batch, bits, n, of, gate) for n, of, gate in gates}
    return {"gates": counts} if gates else {}


def _counts(decider: Decider, batch: int, rejections: np.ndarray, n: int, of: int, gate: Gate) -> Counts:
    came = rejections & ((1 << of) - 1) == 0
    stayed = came & (rejections >> of & 1 == 0)
    rows = decider.rows.read(batch, decider.reads[n] or ["text_uid"])
    rows = rows.append_column("tamis__came", pa.array(came)).append_column("tamis__stayed", pa.array(stayed))
    with decider.candidates(rows) as con:
        try:
            found = database.rows(
                con,
                f"select coalesce({group_key(gate.per)}, {database.literal(UNKNOWN)}) as name, count(*) as counted, "
                "count(*) filter (where tamis__stayed) as kept from candidates where tamis__came group by name "
                f"order by name limit {MAX_GROUPS + 1}",
            )
        except database.SqlError as error:
            blame(gate, error)
    if len(found) > MAX_GROUPS:
        raise RecipeError(
            f"the gate {gate.name!r} has more than {MAX_GROUPS:,} groups by {gate.per}: it is for languages, sources, "
            "kinds of texts"
        )
    return {row["name"]: [row["counted"], row["kept"]] for row in found}


def judge(policy: Sequence[PolicyItem], parts: Iterable[Mapping[str, Counts]]) -> list[Judged]:
    """What each gate finds in the counts of all parts (gate -> counts)."""
    sums: dict[str, Counts] = {gate.name: {} for _, _, gate in gates_of(policy)}
    for part in parts:
        for name, groups in part.items():
            for group, (counted, kept) in groups.items():
                before = sums[name].get(group, [0, 0])
                sums[name][group] = [before[0] + counted, before[1] + kept]
    found = []
    for _, _, gate in gates_of(policy):
        whole = Judged(gate, sums[gate.name], [])
        least = gate.least * _share(whole.counted, whole.kept)
        low = [
            name
            for name, (counted, kept) in sorted(whole.groups.items())
            if counted >= gate.min_texts and _share(counted, kept) < least
        ]
        found.append(Judged(gate, whole.groups, low))
    return found


def close_gates(judged: Sequence[Judged], say: Report) -> None:
    """Say what the gates found; raises GateClosed for the first that ends the run."""
    for each in judged:
        if not each.low:
            continue
        gate = each.gate
        if gate.multilingual or gate.otherwise == "warn":
            declared = " (what scores them is declared multilingual)" if gate.multilingual else ""
            say(f"  {gate.name}: {each.told()}{declared}")
            continue
        raise GateClosed(
            f"gate {gate.name!r}: {each.told()}. Nothing was packed. Score these texts by a model that reads them, cut "
            "within each language, or let the rule speak of those that the model reads; if it reads them all, say "
            "`multilingual: true`; with `otherwise: warn` the run goes on"
        )
