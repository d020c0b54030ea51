"""Columns known for few rows of the pool: what rules over many rows say of single ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Sparse:
    """Columns of the rows named by (batch, row); all other rows are null. `table` has these two columns and others."""

    def __init__(self, table: pa.Table) -> None:
        self.table = _ordered(table)
        self._batches = self.table.column("batch").to_numpy()

    def rows(self, batch: int) -> np.ndarray:
        """Rows of a batch that have values, ascending."""
        rows: np.ndarray = self._slice(batch).column("row").to_numpy()
        return rows

    def values(self, name: str, batch: int) -> pa.ChunkedArray:
        """A column of these rows alone."""
        return self._slice(batch).column(name)

    def column(self, name: str, batch: int, size: int) -> pa.Array | pa.ChunkedArray:
        """A column for all `size` rows of a batch."""
        found = self._slice(batch)
        if found.num_rows == 0:
            return pa.nulls(size, self.table.schema.field(name).type)
        place = np.full(size, -1, dtype=np.int64)
        place[found.column("row").to_numpy()] = np.arange(found.num_rows)
        return pc.take(found.column(name), pa.array(place, mask=place < 0))

    def lost(self, batch: int, size: int) -> np.ndarray:
        """bool (size): which rows of a batch are here."""
        found = np.zeros(size, bool)
        found[self.rows(batch)] = True
        return found

    def _slice(self, batch: int) -> pa.Table:
        start, stop = np.searchsorted(self._batches, [batch, batch + 1])
        return self.table.slice(start, stop - start)


def _ordered(table: pa.Table) -> pa.Table:
    """By batch and row; a table that is in order already, as one that was kept, is not sorted again."""
    batches, rows = (table.column(name).to_numpy() for name in ("batch", "row"))
    follows = (batches[1:] > batches[:-1]) | ((batches[1:] == batches[:-1]) & (rows[1:] >= rows[:-1]))
    return table if follows.all() else table.take(pa.array(np.lexsort((rows, batches))))
