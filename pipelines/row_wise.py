"""What a rule may say in SQL: an expression over one row, with the same value in every run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pyarrow as pa

from pipelines import database

KEYWORDS = ("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
"""Read as columns by the parser, and bound as functions of the clock."""


RANDOM = ("random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid")


@cache
def _unstable() -> frozenset[str]:
    """Functions whose value is not that of their arguments: clocks, random numbers, settings; and macros of these."""
    con = database.connect()
    rows = database.rows(
        con,
        "select distinct function_name from duckdb_functions() "
        "where function_type = 'scalar' and stability <> 'CONSISTENT'",
    )
    names = {str(row["function_name"]) for row in rows} | set(KEYWORDS)
    rows = database.rows(
        con,
        "select function_name, macro_definition as says from duckdb_functions() "
        "where function_type = 'macro' and macro_definition is not null",
    )
    return frozenset(names | {str(row["function_name"]) for row in rows if names & set(_WORD.findall(row["says"]))})


_WORD = re.compile(r"\w+")


def _not_the_same(node: dict[str, Any], types: Mapping[str, pa.DataType]) -> str | None:
    """The name that stands for another value in another run, if this node of a syntax tree is one."""
    name = str(node.get("function_name") or (node.get("column_names") or [""])[-1])
    # the age of something is its distance from today
    is_clock = name in _unstable() or (name == "age" and len(node.get("arguments", ())) == 1)
    return name if is_clock and name not in types else None


def check_row_wise(expression: str, types: Mapping[str, pa.DataType]) -> None:
    """Raises ValueError where `expression` is not one value of one row, or is another one in another run."""
    for node in _nodes(database.syntax_tree(expression)):
        match node.get("class"):
            case "SUBQUERY":
                raise ValueError("a rule looks at one row: it holds a subquery")
            case "WINDOW":
                raise ValueError("a rule looks at one row: it holds a window; see `top`, `quota` and `dedupe`")
            case "STAR":
                raise ValueError("it names several columns at once (`*`, `columns(...)`): name each")
            case "PARAMETER":
                raise ValueError(
                    "nothing takes the place of `?` and `$1`: name a threshold, `$least`, and give it in `at`"
                )
        name = _not_the_same(node, types)
        if name is not None:
            hint = "for a random draw compare the column `draw` (curation.signals.keyed_draw.KeyedDraw)"
            raise ValueError(f"{name} is not the same in every run" + (f"; {hint}" if name in RANDOM else ""))
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
        if node.get("class") in ("STAR", "PARAMETER"):
            raise ValueError("an ordering names its columns: it holds `*`, `columns(...)`, `all` or a parameter")
        name = _not_the_same(node, types)
        if name is not None:
            raise ValueError(f"{name} is not the same in every run")


def _nodes(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from _nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from _nodes(child)
