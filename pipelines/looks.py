"""Looks: the distinct results of `PerceptualHash` in some parts, and the thumbnails behind them, read as needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.near_duplicates import Hashes
from curation.signals.perceptual_hash import CROP_WINDOWS, LOOK_BYTES, THUMBNAIL_PX
from curation.table import read_part
from curation.thumbnail_match import thumbnail_array

HASHES = ("look", "phash", "phash_color", "phash_mirror", "phash_crops")
COLUMNS = (*HASHES, "thumbnail")
"""What near-duplicates are told by."""
DIGEST = f"S{LOOK_BYTES}"
"""Digests in numpy; zero bytes at the end are part of them."""
_GROUPS_KEPT = 32
"""Row groups (of 1,000 rows) whose thumbnails are kept between two readings: 100 MB."""


class Thumbnails:
    """Thumbnails and digests of rows of some parts of the signal's table, read when asked for."""

    def __init__(self, files: Sequence[Path], places: np.ndarray) -> None:
        """`places` (int64, N x 2): for each row that will be asked for, the file by its position, and the row in it."""
        self._files, self._places = files, places
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """uint8 (N, 32, 32, 3). What has one of the rows is read at most once a call."""
        found = np.empty((len(rows), THUMBNAIL_PX, THUMBNAIL_PX, 3), np.uint8)
        for number, which in _by_value(self._places[rows, 0]):
            found[which] = self._rows(number, self._places[rows[which], 1])
        return found

    def digests(self, rows: np.ndarray) -> np.ndarray:
        """S16 (N): the digests of rows."""
        found = np.zeros(len(rows), DIGEST)
        for number, which in _by_value(self._places[rows, 0]):
            column = read_part(self._files[number], ["look"]).column(0)
            found[which] = digests_of(column.take(pa.array(self._places[rows[which], 1])))
        return found

    def _rows(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Thumbnails of rows of one part, of which only the row groups that have them are read."""
        found = np.empty((len(rows), THUMBNAIL_PX, THUMBNAIL_PX, 3), np.uint8)
        with pq.ParquetFile(self._files[number], page_checksum_verification=True) as file:
            ends = np.cumsum([file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)])
            for group, which in _by_value(np.searchsorted(ends, rows, side="right")):
                begin = ends[group] - file.metadata.row_group(group).num_rows
                found[which] = self._group(file, number, group)[rows[which] - begin]
        return found

    def _group(self, file: pq.ParquetFile, number: int, group: int) -> np.ndarray:
        if (number, group) not in self._kept:
            column = file.read_row_group(group, columns=["thumbnail"]).column(0)
            self._kept[number, group] = thumbnail_array(pc.fill_null(column, bytes(THUMBNAIL_PX * THUMBNAIL_PX * 3)))
            if len(self._kept) > _GROUPS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end((number, group))
        return self._kept[number, group]


class Looks:
    """The distinct looks of some parts, in rising order of their digests: 110 bytes of memory a look.

    `files` are the parts, of which those from `num_old` on are new. A look is new if no old part has it.
    """

    def __init__(self, files: Sequence[Path], num_old: int = 0) -> None:
        tables, places = [], []
        for number, path in enumerate(files):
            table, rows = read_hashes(path)
            tables.append(table)
            places.append(np.stack([np.full(len(rows), number), rows], axis=1))
        table = pa.concat_tables(tables).combine_chunks() if tables else None
        every = digests_of(table.column("look")) if table is not None else np.zeros(0, DIGEST)
        # the first of equal looks: old parts come first
        self.digests, first = np.unique(every, return_index=True)
        where = np.concatenate([np.zeros((0, 2), np.int64), *places])[first]
        self.is_new: np.ndarray = where[:, 0] >= num_old
        self.hashes = hashes_of(table.take(pa.array(first))) if table is not None else hashes_of(None)
        self.thumbnails = Thumbnails(files, where)

    def __len__(self) -> int:
        return len(self.digests)


def read_hashes(path: Path) -> tuple[pa.Table, np.ndarray]:
    """The rows of a part that have hashes, and their positions (int64) in it."""
    part = read_part(path, list(HASHES))
    rows = np.flatnonzero(pc.is_valid(part.column("look")).to_numpy(zero_copy_only=False))
    return part.take(pa.array(rows)), rows


def hashes_of(table: pa.Table | None) -> Hashes:
    """The hashes of rows that have them; of None, those of no rows."""
    if table is None or table.num_rows == 0:
        none = np.zeros(0, np.uint64)
        return Hashes(none, none, np.zeros(0, bool), none, np.zeros((0, len(CROP_WINDOWS)), np.uint64))
    color = table.column("phash_color").combine_chunks()
    crops = table.column("phash_crops").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Hashes(
        table.column("phash").to_numpy(),
        color.fill_null(0).to_numpy(zero_copy_only=False).astype(np.uint64),
        color.is_valid().to_numpy(zero_copy_only=False),
        table.column("phash_mirror").to_numpy(),
        np.asarray(crops, np.uint64).reshape(table.num_rows, -1),
    )


def digests_of(column: pa.ChunkedArray) -> np.ndarray:
    """S16 (N): a column of digests without nulls."""
    array = column.combine_chunks().cast(pa.binary(LOOK_BYTES))
    found = np.frombuffer(array.buffers()[1], DIGEST) if len(array) else np.zeros(0, DIGEST)
    return found[array.offset : array.offset + len(array)]


def digest_column(digests: np.ndarray) -> pa.Array:
    """The same digests as a column of 16 bytes each."""
    data = pa.py_buffer(np.ascontiguousarray(digests).tobytes())
    return pa.Array.from_buffers(pa.binary(LOOK_BYTES), len(digests), [None, data])


def _by_value(numbers: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """For each number that occurs, the positions at which it does."""
    if len(numbers) == 0:
        return []
    order = np.argsort(numbers, kind="stable")
    values, begins = np.unique(numbers[order], return_index=True)
    return list(zip(values.tolist(), np.split(order, begins[1:]), strict=True))
