"""Figures of an evaluation as text: under the name of each suite, what it measures and on how much."""

from __future__ import annotations

import re
from typing import Any

from pretrain.suite_names import measures

Rows = list[dict[str, Any]]
RECALL = re.compile(r"recall_at_([0-9]+)")


def figures(rows: Rows) -> str:
    """Retrieval: for each suite what it asks, then a line a direction, each figure beside its chance."""
    lines = []
    whole = [row for row in rows if row["language"] is None and RECALL.fullmatch(row["metric"])]
    for suite in dict.fromkeys(row["suite"] for row in whole):
        lines.append(f"  {suite}: {measures(suite)}" if measures(suite) else f"  {suite}")
        for direction in dict.fromkeys(row["direction"] for row in whole if row["suite"] == suite):
            some = [row for row in whole if (row["suite"], row["direction"]) == (suite, direction)]
            parts = [f"R@{row['metric'].removeprefix('recall_at_')} {_value(row)}" for row in some]
            size = f"{some[0]['n']:,} queries, {some[0]['num_candidates']:,} candidates"
            lines.append(f"    {direction}, {size}: " + ", ".join(parts))
    return "\n".join(lines) or "  nothing to evaluate: no held-out pictures and no held-out languages"


def others(rows: Rows) -> list[str]:
    """The figures that are no recalls and not of a single language, by suite: a line each, beside its chance."""
    chosen = [
        row
        for row in rows
        if not RECALL.fullmatch(row["metric"]) and (row["language"] is None or "+" in row["language"])
    ]
    lines = []
    for suite in dict.fromkeys(row["suite"] for row in chosen):
        lines.append(f"  {suite}: {measures(suite)}" if measures(suite) else f"  {suite}")
        for row in chosen:
            if row["suite"] == suite:
                name = " ".join(str(row[each]) for each in ("metric", "direction") if row[each])
                size = f", n {row['n']:,}" if row.get("n") is not None else ""
                lines.append(f"    {name}: {_value(row)}{size}")
    return lines


def _value(row: dict[str, Any]) -> str:
    """`0.310 [0.190, 0.430] (chance 0.017)`, as far as there are an interval and a chance."""
    interval = "" if row["lo"] is None else f" [{row['lo']:.3f}, {row['hi']:.3f}]"
    return f"{row['value']:.3f}{interval}" + ("" if row["chance"] is None else f" (chance {row['chance']:.3f})")
