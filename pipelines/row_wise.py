"""What a rule may say in SQL: an expression over one row, with the same value in every run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
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
    _check_spelling(expression, types)
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


def is_true(predicate: str) -> str:
    """SQL: whether a predicate is true; where it is null, it is not."""
    return f"coalesce(({without_nan(predicate)}\n), false)"


@lru_cache(maxsize=1024)
def without_nan(expression: str) -> str:
    """SQL: the same, where a text that is cast to a floating-point number and says `nan` is null: NaN is larger than
    every threshold to DuckDB. Raises ValueError where it is not one single expression."""
    return database.rewritten(expression, _null_for_nan)


_SINGLE, _DOUBLE = ("FLOAT", "FLOAT4", "REAL"), ("DOUBLE", "FLOAT8", "DOUBLE PRECISION")


def _null_for_nan(node: dict[str, Any]) -> dict[str, Any]:
    kind = str(node["type_expr"].get("type_name")).upper() if node.get("class") == "CAST" else None
    if kind not in (*_SINGLE, *_DOUBLE):
        return node
    tree = database.syntax_tree(f"nullif(null, 'nan'::{'float' if kind in _SINGLE else 'double'})")
    found: dict[str, Any] = tree["node"]["select_list"][0]
    number, nan = found["arguments"]
    return {**found, "alias": "", "arguments": [{**number, "expression": node}, nan]}


def group_key(expression: str) -> str:
    """SQL: a value as text, by which equal ones are told; -0.0 is 0.0."""
    text = f"({expression}\n)::varchar"
    return f"case when typeof(({expression}\n)) in ('FLOAT', 'DOUBLE') and {text} = '-0.0' then '0.0' else {text} end"


def ordering_expression(ordering: str) -> str:
    """The expression by which SQL orders with `ordering`, for checks that want a single value of it."""
    return f"row_number() over (order by {ordering}\n)"


def ordering_without_nan(ordering: str) -> str:
    """SQL: the same ordering, with null in place of NaN as in `without_nan`."""
    expression = ordering_expression(ordering)
    changed = without_nan(expression)
    return ordering if changed == expression else changed.partition(" OVER (ORDER BY ")[2].removesuffix(")")


def check_ordering(ordering: str, types: Mapping[str, pa.DataType]) -> None:
    """The same for a SQL ordering such as `width_px desc, url`."""
    _check_spelling(ordering_expression(ordering), types)
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


def _check_spelling(expression: str, types: Mapping[str, pa.DataType]) -> None:
    """Raises ValueError for a column in other letters than its own: SQL takes `CLIP_SCORE` for `clip_score`, but which
    columns a rule reads, and so what its decisions depend on, is told by their names. And for a column with its table,
    and a text beside a truth value, which SQL would only refuse when it meets the rows."""
    known = {name.lower(): name for name in types}
    for name in database.columns_of(expression):
        own = known.get(name.lower(), name)
        if name not in types and own != name:
            raise ValueError(f"the column is spelled {own!r}, not {name!r}")
    for node in _nodes(database.syntax_tree(expression)):
        names = list(map(str, node.get("column_names") or ()))
        if len(names) > 1 and names[0] not in types and names[-1] in types:
            raise ValueError(f"a column is named alone: {names[-1]!r}, not {'.'.join(names)!r}")
        truth, text = _truth_beside_text(node, types)
        if truth and text is not None:
            raise ValueError(
                f"the text {text!r} is compared with true or false; YAML reads no, yes, on and off as these: put such "
                "a word in quotes"
            )


def _truth_beside_text(node: dict[str, Any], types: Mapping[str, pa.DataType]) -> tuple[bool, str | None]:
    """Of a comparison or a list (`in`): whether one side is a truth value, and the column of texts among the sides."""
    found: list[Any] = [node.get("left"), node.get("right")] if node.get("class") == "COMPARISON" else []
    found += node.get("children", []) if node.get("type") in ("COMPARE_IN", "COMPARE_NOT_IN") else []
    sides = [side for side in found if isinstance(side, dict)]
    named = [str(side["column_names"][-1]) for side in sides if side.get("column_names")]
    literals = [side["literal"] for side in sides if isinstance(side.get("literal"), dict)]
    truth = any(literal.get("kind") == "BOOLEAN" for literal in literals)
    return truth, next((name for name in named if name in types and pa.types.is_string(types[name])), None)


def _nodes(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from _nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from _nodes(child)
