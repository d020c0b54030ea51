from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.pool_rows import BATCH_ROWS, Arrays


@dataclass(frozen=True)
class TableRows:
    """Rows of a table in memory: `pipelines.pool_rows.Rows` without a store."""

    table: pa.Table
    batch_rows: int = BATCH_ROWS

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        return {field.name: field.type for field in self.table.schema}

    @property
    def sizes(self) -> Sequence[int]:
        starts = range(0, self.table.num_rows, self.batch_rows)
        return [min(self.batch_rows, self.table.num_rows - start) for start in starts]

    def read(self, batch: int, columns: Sequence[str], keep: bool = True) -> pa.Table:
        del keep
        return self.table.select(list(columns)).slice(batch * self.batch_rows, self.batch_rows)

    def remembered(self, name: str, key: object, columns: Sequence[str], find: Callable[[], pa.Table]) -> pa.Table:
        del name, key, columns  # nothing outlives the table
        return find()

    def remembered_arrays(self, name: str, key: object, columns: Sequence[str], find: Callable[[], Arrays]) -> Arrays:
        del name, key, columns
        return find()
