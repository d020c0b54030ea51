"""A part of `media` while its rows come in, in any order."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from os import preadv
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from curation.schema import MEDIA, OUTCOME
from curation.step import digest
from curation.table import ROW_GROUP_ROWS, TEMPORARY_PREFIX, Part, read_groups, write_part

NAMES = MEDIA.names  # pyarrow makes a new list each time
BYTES = MEDIA.get_field_index("bytes")
GROUP_BYTES = 512 << 20
"""Of media in a row group: what is in memory while it is written. A thousand pictures are less by far; a few videos."""

KEPT_BYTES = 64 << 20
"""Memory for a row group up to this size is kept for the next one: for each picture new memory costs 0.01 ms more."""
_kept = threading.local()


def _room(num_bytes: int) -> memoryview:
    """Memory for so many bytes, of any content, which the next call in this thread hands out again."""
    if num_bytes > KEPT_BYTES:
        return memoryview(bytearray(num_bytes))
    if len(getattr(_kept, "room", b"")) < num_bytes:
        _kept.room = bytearray(num_bytes)
    return memoryview(_kept.room)[:num_bytes] if num_bytes else memoryview(bytearray())


class Draft:
    """The rows, and the bytes to be stored in a file beside the table that has no name, so that a killed worker leaves
    none. In memory are at most the bytes of one row group, while it is written: several parts may be open at a time.
    """

    def __init__(self, folder: Path, num_rows: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rows: list[tuple[Any, ...] | None] = [None] * num_rows
        self._places = [(0, 0)] * num_rows  # in the file: where, how many bytes
        self._size = 0
        # closed by `close`, or with the last reference where a worker's call ends before its time
        self._file = tempfile.TemporaryFile(prefix=TEMPORARY_PREFIX, dir=folder, buffering=0)  # noqa: SIM115
        self.num_open = num_rows
        self.num_bytes = 0  # of all rows by their column `size_bytes`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._file.close()

    def put(self, index: int, row: Mapping[str, Any]) -> None:
        """Take the row's columns and bytes. Raises OSError where there is no room for them."""
        assert self._rows[index] is None
        stored = row["bytes"]
        if stored is not None:
            self._places[index] = self._size, len(stored)
            self._size += len(stored)
            left = memoryview(stored)
            while left:
                left = left[self._file.write(left) :]
        # of the bytes no more than whether there are any
        self._rows[index] = tuple(stored is not None if name == "bytes" else row[name] for name in NAMES)
        self.num_open -= 1
        self.num_bytes += row["size_bytes"] or 0

    def put_others_of(self, part: Path) -> None:
        """Take the rows that have not been put from a part of the same media, as they are there."""
        index = 0
        for group in read_groups(part):
            for row in group.to_pylist():
                if self._rows[index] is None:
                    self.put(index, row)
                index += 1

    def publish(self, index: int, key: str) -> Part:
        """Publish the rows as a part of `media`, which later steps take for the same if the outcome is the same."""
        rows = [row for row in self._rows if row is not None]
        assert len(rows) == len(self._rows)
        of_outcome = [MEDIA.get_field_index(name) for name in OUTCOME]
        status, reason = MEDIA.get_field_index("status"), MEDIA.get_field_index("reason")
        part = write_part(
            self._folder,
            index,
            key,
            pa.RecordBatchReader.from_batches(MEDIA, self._row_groups(rows)),
            identity=digest("outcome", [{NAMES[i]: row[i] for i in of_outcome} for row in rows]),
            stats={
                "status": dict(Counter(row[status] for row in rows)),
                "reasons": dict(Counter(row[reason] for row in rows if row[reason])),
            },
            plain=["bytes"],
        )
        self.close()
        return part

    def _row_groups(self, rows: list[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        for start, end in self._groups():
            group = list(zip(*rows[start:end], strict=True))
            arrays = [pa.array(group[i], field.type) for i, field in enumerate(MEDIA) if i != BYTES]
            arrays.insert(BYTES, self._bytes(self._places[start:end], group[BYTES]))
            yield pa.RecordBatch.from_arrays(arrays, schema=MEDIA)

    def _groups(self) -> Iterator[tuple[int, int]]:
        """First and last row (excluded) of each row group: at most so many rows and, beyond one row, bytes."""
        start, held = 0, 0
        for index, (_, size) in enumerate(self._places):
            if index > start and (index - start == ROW_GROUP_ROWS or held + size > GROUP_BYTES):
                yield start, index
                start, held = index, 0
            held += size
        if start < len(self._places):
            yield start, len(self._places)

    def _bytes(self, places: list[tuple[int, int]], is_valid: tuple[bool, ...]) -> pa.Array:
        """The bytes of some rows as one column; in memory once, and only until the next call."""
        ends = [0]
        for _, size in places:
            ends.append(ends[-1] + size)
        offsets = pa.array(ends, pa.int32()).buffers()[1]  # a row group of over 2 GB raises here
        joined = _room(ends[-1])
        for (at, size), end in zip(places, ends[1:], strict=True):
            while size:
                count = preadv(self._file.fileno(), [joined[end - size : end]], at)
                if not count:
                    raise OSError(f"{self._folder}: the file with a part's bytes has become shorter")
                at, size = at + count, size - count
        valid = pa.array(is_valid, pa.bool_()).buffers()[1]
        return pa.Array.from_buffers(pa.binary(), len(places), [valid, offsets, pa.py_buffer(joined)])
