"""Where each value of a plain column lies in a Parquet file, so that one row is one ranged read.

A column written uncompressed and PLAIN (`curation.table.write_part(plain=...)`) holds its values as they are, each
after its length, page after page. The page headers are Thrift's compact protocol; only sizes and counts are needed.
Sources: Apache Parquet, `parquet.thrift` (PageHeader, DataPageHeader, DataPageHeaderV2) and `Encodings.md` (PLAIN);
Apache Thrift, `thrift-compact-protocol.md`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema([pa.field("start", pa.int64()), pa.field("length", pa.int32())])
"""start: byte at which a value begins; length: its bytes, -1 for null."""
_PLAIN = 0
_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = range(4)
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


def byte_ranges(path: Path, column: str) -> pa.Table:
    """Start and length of each row's value of a top-level bytes column, in the order of the rows (`SCHEMA`).

    Raises ValueError where the column is not stored plain and uncompressed, or the file's pages do not add up.
    """
    metadata = pq.read_metadata(path)
    leaves = [metadata.schema.column(i) for i in range(metadata.num_columns)]
    is_optional = any(leaf.path == column and leaf.max_definition_level for leaf in leaves)
    starts = np.zeros(metadata.num_rows, dtype=np.int64)
    lengths = np.full(metadata.num_rows, -1, dtype=np.int32)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        content.madvise(mmap.MADV_RANDOM)  # a few bytes of each value are read, not what lies between
        row = 0
        for group in range(metadata.num_row_groups):
            chunk = _chunk(metadata.row_group(group), column, path)
            for present, place in _pages(content, chunk, is_optional, path):
                row = _enter(content, present, place, row, starts, lengths)
    if row != metadata.num_rows:
        raise ValueError(f"{path}: the pages of column {column!r} hold {row} rows, the file {metadata.num_rows}")
    return pa.table([starts, lengths], schema=SCHEMA)


def _chunk(group: Any, column: str, path: Path) -> Any:
    found = next((group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == column), None)
    if found is None or found.physical_type != "BYTE_ARRAY":
        raise ValueError(f"{path}: there is no top-level column {column!r} of bytes")
    if found.compression != "UNCOMPRESSED" or found.has_dictionary_page:
        raise ValueError(f"{path}: column {column!r} is not stored plain and uncompressed")
    return found


def _pages(content: mmap.mmap, chunk: Any, is_optional: bool, path: Path) -> Iterator[tuple[list[bool], int]]:
    """Of each data page of a column chunk: which of its rows have a value, and where the values begin."""
    place, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
    while place < end:
        header, body = _Compact(content, place).struct()
        kind, size = header[1], header[3]
        if kind in (_DATA_PAGE, _DATA_PAGE_V2):
            is_v2 = kind == _DATA_PAGE_V2
            about = header[8 if is_v2 else 5]
            if about[4 if is_v2 else 2] != _PLAIN:
                raise ValueError(f"{path}: a page at byte {place} is not PLAIN")
            yield _levels(content, body, about, is_v2) if is_optional else ([True] * about[1], body)
        place = body + size


def _enter(
    content: mmap.mmap, present: list[bool], place: int, row: int, starts: np.ndarray, lengths: np.ndarray
) -> int:
    """Enter the values of one page, which begin at `place`; returns the row behind it."""
    for is_there in present:
        if is_there:
            (length,) = struct.unpack_from("<I", content, place)
            starts[row], lengths[row] = place + 4, length
            place += 4 + length
        row += 1
    return row


def _levels(content: mmap.mmap, body: int, about: dict[int, Any], is_v2: bool) -> tuple[list[bool], int]:
    """(for each row of a page whether it has a value, where the values begin). The column is optional, never nested."""
    count = about[1]
    if is_v2:
        start, length = body + about[6], about[5]
        return _definitions(content, start, length, count), start + length
    (length,) = struct.unpack_from("<I", content, body)
    return _definitions(content, body + 4, length, count), body + 4 + length


def _definitions(content: mmap.mmap, place: int, length: int, count: int) -> list[bool]:
    """Definition levels 0 and 1 in Parquet's mixture of runs and packed bits (`Encodings.md`, RLE)."""
    found: list[bool] = []
    end = place + length
    while place < end and len(found) < count:
        header, place = _varint(content, place)
        if header & 1:
            packed = np.frombuffer(content[place : place + (header >> 1)], dtype=np.uint8)
            found += np.unpackbits(packed, bitorder="little").astype(bool).tolist()
            place += header >> 1
        else:
            found += [bool(content[place])] * (header >> 1)
            place += 1
    return found[:count]


def _varint(content: mmap.mmap, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place


class _Compact:
    """Reads one struct of Thrift's compact protocol as {field id: value}, nested structs likewise."""

    def __init__(self, content: mmap.mmap, place: int) -> None:
        self._content, self._place = content, place

    def struct(self) -> tuple[dict[int, Any], int]:
        """The fields, and the byte behind the struct."""
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            delta, kind = head >> 4, head & 0x0F
            number = number + delta if delta else self._zigzag()
            fields[number] = (kind == _TRUE) if kind in (_TRUE, _FALSE) else self._value(kind)
        return fields, self._place

    def _byte(self) -> int:
        self._place += 1
        return self._content[self._place - 1]

    def _number(self) -> int:
        value, self._place = _varint(self._content, self._place)
        return value

    def _zigzag(self) -> int:
        value = self._number()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int) -> Any:
        if kind in (_BYTE, _TRUE, _FALSE):
            return self._byte()
        if kind == _DOUBLE:
            self._place += 8
            return None
        if kind == _BINARY:
            length = self._number()
            self._place += length
            return None
        if kind in (_LIST, _SET):
            head = self._byte()
            size = head >> 4 if head >> 4 != 15 else self._number()
            return [self._value(head & 0x0F) for _ in range(size)]
        if kind == _MAP:
            size = self._number()
            kinds = self._byte() if size else 0
            return [(self._value(kinds >> 4), self._value(kinds & 0x0F)) for _ in range(size)]
        if kind == _STRUCT:
            return self.struct()[0]
        return self._zigzag()
