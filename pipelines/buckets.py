"""Rows gathered on disk by ranges of a number, so that each range can be put in order in memory by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

import numpy as np
import pyarrow as pa

from pipelines.spilled import table_of

_PENDING_ROWS = 1 << 18
"""Rows that wait in memory, so that what is appended to each file is not tiny."""


class Buckets:
    """Tables of one schema, cut at `bounds`, in nameless files. A context manager.

    A row with the number k is in the bucket of the last bound that is at most k, or in the first.
    """

    def __init__(self, folder: Path | None, bounds: np.ndarray) -> None:
        """`folder`: where the room is taken; None: where temporary files are. bounds: rising, without the first."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._bounds = folder, bounds
        self._pending: list[pa.Table] = []
        self._numbers: list[np.ndarray] = []
        self._rows = 0
        self._files: dict[int, tuple[IO[bytes], pa.RecordBatchWriter]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, numbers: np.ndarray, table: pa.Table) -> None:
        """Append rows, each with its number."""
        self._numbers.append(numbers)
        self._pending.append(table)
        self._rows += table.num_rows
        if self._rows >= _PENDING_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            numbers, table = np.concatenate(self._numbers), pa.concat_tables(self._pending)
            buckets = np.searchsorted(self._bounds, numbers, side="right").astype(np.uint16)
            table = table.take(pa.array(np.argsort(buckets, kind="stable"))).combine_chunks()
            ends = np.cumsum(np.bincount(buckets)).tolist()
            for bucket, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
                if end > begin:
                    self._writer(bucket, table.schema).write_table(table.slice(begin, end - begin))
        self._numbers, self._pending, self._rows = [], [], 0

    def _writer(self, bucket: int, schema: pa.Schema) -> pa.RecordBatchWriter:
        if bucket not in self._files:
            file = self._stack.enter_context(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115
            self._files[bucket] = file, pa.ipc.new_stream(file, schema)
        return self._files[bucket][1]

    def tables(self) -> Iterator[pa.Table]:
        """The rows of each bucket that has some, by rising numbers, in the order in which they came.

        They are pages of its file.
        """
        self._flush()
        for bucket in sorted(self._files):
            file, writer = self._files.pop(bucket)
            writer.close()
            file.flush()
            found = table_of(np.memmap(file, np.uint8, "r"))
            file.close()  # its pages stay as long as somebody looks at them
            yield found
            del found


def even_bounds(numbers: np.ndarray, bucket_rows: int, most: int = 256) -> np.ndarray:
    """int64, rising: bounds between which about `bucket_rows` of these numbers lie, or more for want of files."""
    num = min(most, len(numbers) // bucket_rows)
    if num < 2:
        return np.zeros(0, np.int64)
    sample = np.sort(numbers[:: max(1, len(numbers) // (1000 * num))])
    return np.unique(sample[np.arange(1, num) * len(sample) // num]).astype(np.int64)
