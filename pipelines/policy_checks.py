"""Checks of a policy against the columns that there are, with the place in the YAML of every mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pyarrow as pa

from curation.policy import Balance, Decontaminate, Dedupe, Gate, PolicyItem, Quota, Rule, Top, Weight
from curation.step import suggest
from pipelines.balance import balanced_by
from pipelines.database import check_expression, columns_of
from pipelines.decided import MAX_RULES
from pipelines.row_wise import check_ordering, check_row_wise, ordering_expression
from pipelines.yaml_place import Places, RecipeError


def check_policy(
    policy: Sequence[PolicyItem], types: Mapping[str, pa.DataType], places: Places, prefix: tuple[int | str, ...] = ()
) -> None:
    """Raises RecipeError for two rules of one name, and for SQL that cannot be bound or looks beyond its row."""
    if len(policy) > MAX_RULES:
        raise RecipeError(f"{places(*prefix, 'policy')}: {len(policy)} rules: at most {MAX_RULES} are kept apart")
    names: set[str] = set()
    # the rule `downloaded` is in the policy but may not be in the file
    first = places.length(*prefix, "policy") - len(policy)
    for position, item in enumerate(policy, start=first):
        here = (*prefix, "policy", position)
        if item.name in names:
            raise RecipeError(f"{places(*here)}: two rules are called {item.name!r}")
        if isinstance(item, Gate) and item.of not in names:
            raise RecipeError(
                f"{places(*here, 'of')}: no rule above the gate is called {item.of!r}; "
                f"{suggest(item.of, sorted(names))}"
            )
        names.add(item.name)
        check_rule_sql(item, types, partial(places, *here))


def check_rule_sql(item: PolicyItem, types: Mapping[str, pa.DataType], place: Callable[[str], str]) -> None:
    """Raises RecipeError for the SQL of one rule, with `place` of the field."""
    for field, expression, wanted in _row_wise_fields(item):
        try:
            columns_of(expression, field)
            check_row_wise(expression, types)
            check_expression(expression, types, wanted)
        except ValueError as error:
            raise _mistake(place(field), error, getattr(item, field, expression), types) from error
    for field, ordering in _orderings(item):
        expression = ordering_expression(ordering)
        try:
            columns_of(expression, field)
            check_ordering(ordering, types)
            check_expression(expression, types, "BIGINT")
        except ValueError as error:
            raise _mistake(place(field), error, ordering, types) from error


def _mistake(place: str, error: ValueError, value: object, types: Mapping[str, pa.DataType]) -> RecipeError:
    return RecipeError(f"{place}: {error} (value: {value!r}; columns: {', '.join(sorted(types))})")


def _row_wise_fields(item: PolicyItem) -> list[tuple[str, str, str | None]]:
    """(field, expression, SQL type that it must have) of all that a rule asks of a single row."""
    match item:
        case Rule():
            return [("keep", item.predicate(), "BOOLEAN")]
        case Top():
            return [("by", item.by, "NUMBER")]
        case Quota():
            return [("per", item.per, None)]
        case Weight():
            return [("value", item.value, "NUMBER")]
        case Gate():
            return [("per", item.per, None)]
        case Balance():
            return [("where", item.where, "BOOLEAN"), *balanced_by(item)]
        case Dedupe() | Decontaminate():
            return []


def _orderings(item: PolicyItem) -> list[tuple[str, str]]:
    match item:
        case Dedupe():
            return [("prefer", item.prefer)]
        case Quota() if item.prefer is not None:
            return [("prefer", item.prefer)]
    return []
