"""Rows on a terminal or in a pipe: what a crawl holds, so that it can be read and steers nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from flows.explained import Screen

if TYPE_CHECKING:
    import pyarrow as pa

out = Screen(soft_wrap=True, highlight=False, emoji=False)
MAX_CELL_CHARS = 4000
"""Of one value; the rest of it is in what `-o FILE` writes. One page taken for a caption would pad every row."""
MIN_COLUMN_CHARS = 12
"""On a terminal that would leave columns less than this on average, each value has a line of its own."""
GAP = 2


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of the same columns: as a table, or, on a terminal that is too narrow for it, value by value."""
    if not rows:
        out.print("(no rows)")
        return
    names, cells = list(rows[0]), [[cell(value) for value in row.values()] for row in rows]
    right = [_is_number(next((row[name] for row in rows if row[name] is not None), None)) for name in names]
    widths = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    if not sys.stdout.isatty():  # one row a line, for grep and awk
        for line in [names, *cells]:
            out.print(_aligned(line, widths, right), markup=False)
        return
    room = out.width - (GAP + 1) * (len(names) - 1)
    if sum(widths) > room and room < MIN_COLUMN_CHARS * len(names):
        _one_by_one(names, cells)
        return
    table = Table(show_edge=False, pad_edge=False)
    for name, is_number in zip(names, right, strict=True):
        table.add_column(Text(name), justify="right" if is_number else "left")
    for line in cells:
        table.add_row(*map(Text, line))
    out.print(table)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of an answer; a date that Python cannot hold, such as SQL's `infinity`, says so."""
    columns = [[_python_value(each) for each in column] for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _python_value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except OverflowError:
        return f"({value.type} out of range)"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _aligned(line: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for text, width, is_number in zip(line, widths, right, strict=True):
        space = " " * (width - cell_len(text))
        padded.append(space + text if is_number else text + space)
    return (" " * GAP).join(padded).rstrip()


def _one_by_one(names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    width = max(map(cell_len, names))
    for number, line in enumerate(cells, start=1):
        out.print(Text(f"row {number}", style="bold"))
        for name, text in zip(names, line, strict=True):
            out.print(Text(f"  {name}{' ' * (width - cell_len(name))}  {text}".rstrip()))


def cell(value: object) -> str:
    """One value as text of one line."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if len(text) > MAX_CELL_CHARS:
        text = f"{text[:MAX_CELL_CHARS]} ... {len(text) - MAX_CELL_CHARS:,} more characters"
    # what a crawl holds must not steer the terminal
    return "".join(ch if ch.isprintable() else "\ufffd" for ch in text)
