"""Score level: in which of several equal shares of the pool the score of a text lies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.fitted import FittedSignal
from curation.ordered_bins import NUM_BINS, bins
from curation.signal import Level, as_table

_BINNED_AS = np.dtype(np.float32)
"""Rounding keeps the order, and the first bits of single precision tell more scores apart."""


class ScoreLevel(FittedSignal):
    """The level of a text's score among all texts of the pool that have one: bins of equal frequency, to one row.

    Of n texts in the order of their scores, equal ones in the order of their uids, level k holds those at the places
    floor(k n / levels) to floor((k + 1) n / levels) - 1, so two levels differ by one text at most, however many scores
    are equal, and the same text has the same level however the pool is cut or ordered. Levels say how well a pair is
    aligned without the scale of a model: a rule keeps `align_level >= 2`, a weight is `[0.2, 0.5, 1, 1, 1][align_level
    + 1]`, and a model is trained by it (`pretrain.targets.graded.Graded`, column `texts.align_level`). Fitting reads
    the scores twice and holds those that share a bin with a border.

    Column: `align_level` (with another `name`, `{name}_level`), int32, 0 (lowest) to `levels` - 1; null where the score
    is null or not finite, or there is no uid. Unit: none. Model: none; it follows the column that it reads.
    Source: AlignGPT, arXiv 2405.14129 (levels of CLIP similarity, of equal size).
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"

    column: str = "clip_score"
    """The score: a column of numbers of texts, or of their media."""
    levels: int = Field(default=5, ge=2, le=1000)
    name: str = Field(default="align", pattern=r"^[a-z][a-z0-9_]*$")
    """Begins the names of table and column, so that several stand side by side."""

    def table_name(self) -> str:
        return f"{self.name}_level"

    def reads(self) -> tuple[str, ...]:
        return ("text_uid", self.column)

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): pa.int32()})

    def fit_pool(self, parts: Iterable[pa.Table]) -> pa.Table:
        counts = np.zeros(NUM_BINS, np.int64)
        for rows in parts:
            counts += np.bincount(_bins_of(self._known(rows)[1]), minlength=NUM_BINS)
        ends, total = np.cumsum(counts), int(counts.sum())
        # places, from 0, at which a new level begins; with fewer texts than levels some coincide
        borders = [k * total // self.levels for k in range(1, self.levels)] if total else []
        wanted = np.unique(np.searchsorted(ends, borders, side="right"))
        scores, uids = [np.zeros(0)], [pa.array([], pa.string())]
        for rows in parts if len(wanted) else ():
            known, values = self._known(rows)
            chosen = np.isin(_bins_of(values), wanted)
            scores.append(values[chosen])
            uids += rows.column("text_uid").filter(known).filter(pa.array(chosen)).chunks
        near = pa.table({"score": np.concatenate(scores), "text_uid": pa.chunked_array(uids)})
        near = near.sort_by([("score", "ascending"), ("text_uid", "ascending")])
        # where the first of each wanted bin stands among all, and among those that are near
        before = np.cumsum(counts[wanted]) - counts[wanted]
        in_bin = [int(np.searchsorted(wanted, np.searchsorted(ends, border, side="right"))) for border in borders]
        places = [
            border - int(ends[wanted[at]] - counts[wanted[at]]) + int(before[at])
            for at, border in zip(in_bin, borders, strict=True)
        ]
        return near.take(pa.array(places, pa.int64())).combine_chunks()

    def apply(self, rows: pa.Table, fit: pa.Table) -> pa.Table:
        known, values = self._known(rows)
        uids = rows.column("text_uid").filter(known)
        level = np.zeros(len(values), np.int32)
        for score, uid in zip(fit.column("score").to_pylist(), fit.column("text_uid").to_pylist(), strict=True):
            is_tied = values == score
            level += values > score
            if is_tied.any():
                level += is_tied & pc.greater_equal(uids, uid).to_numpy()
        found = np.zeros(rows.num_rows, np.int32)
        is_known = known.to_numpy()
        found[is_known] = level
        return as_table({self.table_name(): pa.array(found, mask=~is_known)}, self.writes())

    def _known(self, rows: pa.Table) -> tuple[pa.ChunkedArray, np.ndarray]:
        """Which rows have a finite score and a uid, and the scores of these as doubles.

        Raises ValueError where the column holds no numbers.
        """
        column = rows.column(self.column)
        kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
        if not any(is_kind(column.type) for is_kind in kinds):
            raise ValueError(f"{self.table_name()}: the column {self.column!r} holds {column.type}, no numbers")
        scores = column.cast(pa.float64())
        known = pc.and_(pc.fill_null(pc.is_finite(scores), False), rows.column("text_uid").is_valid())
        return known, scores.filter(known).to_numpy() + 0.0


def _bins_of(scores: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return bins(scores.astype(_BINNED_AS), _BINNED_AS)
