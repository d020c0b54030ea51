"""Rules over many rows, brought down to figures with which every row can be judged where it lies.

`top` becomes a cut, `quota` and `dedupe` the rows that they reject, `balance` the counts of the entries. Each is solved
after the rules above it, exactly, by one pass over the batches and SQL over what the batches gave.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.policy import Balance, Decontaminate, Dedupe, PolicyItem, Quota, Top
from pipelines import database
from pipelines.balance import solve_balance
from pipelines.cut import cut_at, narrow
from pipelines.decide import Decider, blame
from pipelines.quotas import LAYOUT, OverQuota, over_quota
from pipelines.rule_sql import finite
from pipelines.solve_found import solve_found


def solve(decider: Decider) -> None:
    """Find the figures of every rule, in the policy's order. Raises RecipeError for a rule that fails on some row."""
    for n, item in enumerate(decider.policy):
        try:
            _solve(decider, n, item)
        except database.SqlError as error:  # an ordering, say, which only this rule asks for
            blame(item, error)


def _solve(decider: Decider, n: int, item: PolicyItem) -> None:
    match item:
        case Top():
            _solve_top(decider, n, item)
        case Quota():
            _solve_quota(decider, n, item)
        case Dedupe() | Decontaminate():
            solve_found(decider, n, item)
        case Balance():
            solve_balance(decider, n, item)


# top ------------------------------------------------------------------------------------------------------------------


def _solve_top(decider: Decider, n: int, item: Top) -> None:
    def scores(batch: int) -> tuple[np.ndarray, int]:
        found = _scores(decider, batch, n, item, ["score"])
        counted = found.filter(found.column("counted")).column("score")
        return narrow(counted.to_numpy()), found.num_rows

    pieces, pool = [], 0
    for _, (counted, num) in decider.each(scores):
        pieces.append(counted)
        pool += num
    total = sum(map(len, pieces))
    base = pool if item.of == "pool" else total
    # DataComp multiplies in floating point; ours is exact, so that 0.28 of 100 rows are 28 and not 29
    broken = math.ceil(Fraction(repr(item.fraction)) * base)
    place = min(total, int(base * item.fraction) + 1 if item.ties == "keep" else broken)
    solved: dict[str, Any] = {"cut": None, "cut_uid": None, "total": total}
    if total:
        cut = cut_at(pieces, place)
        solved["cut"] = cut.value
        among_ties = place - cut.num_above
        if item.ties == "break" and among_ties < cut.num_equal:
            batches = [batch for batch, piece in enumerate(pieces) if (piece == np.float64(cut.value)).any()]
            solved["cut_uid"] = _last_of_ties(decider, n, item, cut.value, among_ties, batches)
    decider.solved[n] = solved


def _scores(decider: Decider, batch: int, n: int, item: Top, wanted: list[str]) -> pa.Table:
    """score (and text_uid, if wanted) of the rows with a value, and whether each is counted."""
    columns = [*decider.reads[n], *(name for name in wanted if name != "score")]
    score = {name: finite(item.by) if name == "score" else name for name in wanted}
    found, passed = decider.asked(batch, n if item.among == "passed" else 0, columns, score)
    counted = passed if item.among == "passed" else pa.array(np.ones(len(passed), dtype=bool))
    return found.append_column("counted", counted).filter(pc.is_valid(found.column("score")))


def _last_of_ties(decider: Decider, n: int, item: Top, cut: float, place: int, batches: list[int]) -> str:
    """text_uid of the last row at the cut that stays: the `place`-th of them in the order of text_uid. `batches`: those
    that have such rows."""

    def ties(batch: int) -> pa.Table:
        found = _scores(decider, batch, n, item, ["text_uid", "score"])
        at_cut = pc.and_(pc.equal(found.column("score"), cut), found.column("counted"))
        return found.filter(at_cut).select(["text_uid"])

    for batch, found in decider.each(ties, batches):
        decider.fill("ties", batch, found)
    ordered = "select text_uid from ties order by text_uid limit 1 offset $skipped"
    (last,) = database.rows(decider.con, ordered, {"skipped": place - 1})
    decider.drop("ties")
    return str(last["text_uid"])


# quota ----------------------------------------------------------------------------------------------------------------


def _solve_quota(decider: Decider, n: int, item: Quota) -> None:
    decider.said[n] = OverQuota(decider.remembered_arrays("quota", LAYOUT, n, partial(over_quota, decider, n, item)))
    decider.solved[n] = {}
