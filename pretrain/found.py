"""What an evaluation found: its figures, and what every single query came to. Both are Parquet tables beside the run.

The second is what intervals over several runs are made from, and says which captions a model fails at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.table import read_part, replacing, write_parquet

Row = dict[str, Any]
RANK = "rank"


@dataclass
class Found:
    """Rows of `curation.schema.FIGURES` and `OUTCOMES`, without the first two columns."""

    figures: list[Row] = field(default_factory=list)
    outcomes: list[Row] = field(default_factory=list)

    def __iadd__(self, other: Found) -> Found:
        self.figures += other.figures
        self.outcomes += other.outcomes
        return self

    def add_figures(self, rows: Iterable[Mapping[str, Any]], **fixed: Any) -> None:
        """Rows {metric, value, lo, hi, chance, n} with what they have in common."""
        self.figures += [{"direction": None, "language": None, "num_candidates": None, **fixed, **row} for row in rows]

    def add_outcomes(
        self, values: np.ndarray, items: Sequence[str], clusters: Sequence[str],
        languages: Sequence[Sequence[str]] | None = None, **fixed: Any,
    ) -> None:  # fmt: skip
        """One value for each item. fixed: suite, measure and, if there is one, direction."""
        spoken = languages if languages is not None else [()] * len(items)
        for value, item, cluster, names in zip(values.tolist(), items, clusters, spoken, strict=True):
            row = {"direction": None, **fixed, "item": item, "cluster": cluster}
            self.outcomes.append({**row, "languages": list(names), "value": float(value)})


def write(rows: list[Row], schema: pa.Schema, path: Path, run: str, version: str | None = None) -> None:
    """Write rows as a Parquet file, whole or not at all. version: of all of them, where they do not say it."""
    fixed = {"run": run} if version is None else {"run": run, "version": version}
    table = pa.Table.from_pylist([{**row, **fixed} for row in rows], schema=schema)
    with replacing(path) as temporary:
        write_parquet(temporary, table, {})


def read(path: Path) -> list[Row]:
    """The rows of a file that `write` wrote, page checksums verified."""
    rows: list[Row] = read_part(path).to_pylist()
    return rows
