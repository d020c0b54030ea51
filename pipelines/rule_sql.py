"""Pieces of SQL that asking the rules and reading their answers have in common."""

from __future__ import annotations

from curation.policy import Balance, Decontaminate, Dedupe, Gate, PolicyItem, Quota, Rule, Top, Weight
from pipelines import balance, database
from pipelines.row_wise import ordering_expression
from pipelines.select_duplicates import gives

PREFIX = "tamis__"
"""Begins the names of columns that are not the pool's."""


def columns_read(item: PolicyItem) -> list[str]:
    """Names that a rule reads, in order of appearance (the arguments of lambdas among them)."""
    match item:
        case Rule():
            return database.columns_of(item.predicate())
        case Top():
            return database.columns_of(item.by)
        case Quota():
            ordering = database.columns_of(ordering_expression(item.prefer)) if item.prefer else []
            return [*database.columns_of(item.per), *ordering]
        case Weight():
            return database.columns_of(item.value)
        case Gate():
            return database.columns_of(item.per)
        case Dedupe():
            return database.columns_of(ordering_expression(item.prefer))
        case Balance():
            return balance.columns_read(item)
        case Decontaminate():
            return []


def finite(expression: str) -> str:
    """SQL: the expression as a double, null where it is not finite."""
    return f"(case when isfinite(({expression}\n)::double) then ({expression}\n)::double end)"


def double(value: float | None) -> str:
    """SQL: a double with all its bits (a decimal literal may be rounded twice)."""
    return "null" if value is None else f"'{value!r}'::double"


def sparse_columns(item: PolicyItem) -> tuple[str, ...]:
    """What a rule over many rows says of the rows that it rejects."""
    return ("num", "place") if isinstance(item, Quota) else gives(item)


def sparse_names(n: int, item: PolicyItem) -> list[str]:
    """Columns of few rows that rule `n` adds."""
    return [f"{PREFIX}{name}_{n}" for name in sparse_columns(item)]


def balances(policy: list[PolicyItem], until: int) -> list[int]:
    """Places of the balances before `until`."""
    return [n for n, item in enumerate(policy[: max(0, until)]) if isinstance(item, Balance)]
