"""What a rule may say in SQL: an expression over one row, with the same value in every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pyarrow as pa

from pipelines import database

KEYWORDS = ("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
"""Read as columns by the parser, and bound as functions of the clock."""


@cache
def _unstable() -> frozenset[str]:
    """Functions whose value is not that of their arguments: clocks, random numbers, settings."""
    rows = database.rows(
        database.connect(),
        "select distinct function_name from duckdb_functions() "
        "where function_type = 'scalar' and stability <> 'CONSISTENT'",
    )
    return frozenset(str(row["function_name"]) for row in rows) | frozenset(KEYWORDS)


def check_row_wise(expression: str, types: Mapping[str, pa.DataType]) -> None:
    """Raises ValueError where `expression` looks beyond its row, or gives another value in another run.

    It has to be valid otherwise (`database.check_expression`).
    """
    for node in _nodes(database.syntax_tree(expression)):
        match node.get("class"):
            case "SUBQUERY":
                raise ValueError("a rule looks at one row: it holds a subquery")
            case "WINDOW":
                raise ValueError("a rule looks at one row: it holds a window; see `top`, `quota` and `dedupe`")
        name = node.get("function_name") or (node.get("column_names") or [""])[-1]
        if name in _unstable() and name not in types:
            raise ValueError(
                f"{name} is not the same in every run; for a random draw compare the column `draw` "
                "(curation.signals.keyed_draw.KeyedDraw)"
            )
    database.check_in_where(expression, types)


def ordering_expression(ordering: str) -> str:
    """The expression by which SQL orders with `ordering`, for checks that want a single value of it."""
    return f"row_number() over (order by {ordering}\n)"


def check_ordering(ordering: str, types: Mapping[str, pa.DataType]) -> None:
    """The same for a SQL ordering such as `width_px desc, url`."""
    windows = 0
    for node in _nodes(database.syntax_tree(ordering_expression(ordering))):
        windows += node.get("class") == "WINDOW"
        if node.get("class") == "SUBQUERY" or windows > 1:
            raise ValueError("an ordering looks at one row: it holds a subquery or a window")
        name = node.get("function_name") or (node.get("column_names") or [""])[-1]
        if name in _unstable() and name not in types:
            raise ValueError(f"{name} is not the same in every run")


def _nodes(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from _nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from _nodes(child)
