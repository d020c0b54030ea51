"""Bytes that do not fit into memory while a part is made: in a nameless file, so that a killed worker leaves none."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from curation.table import TEMPORARY_PREFIX


@dataclass(frozen=True)
class Place:
    """Where some bytes lie in a spool, and how many they are."""

    at: int
    size: int


class Spool:
    """A context manager; `folder` is where the room is taken."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(prefix=TEMPORARY_PREFIX, dir=folder, buffering=0)  # noqa: SIM115
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, data: bytes) -> Place:
        """Take the bytes. Raises OSError where there is no room for them."""
        place, left = Place(self._size, len(data)), memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self._size += place.size
        return place

    def get(self, place: Place) -> bytes:
        """The bytes at a place."""
        found = bytearray()
        while len(found) < place.size:
            some = os.pread(self._file.fileno(), place.size - len(found), place.at + len(found))
            if not some:
                raise OSError("a temporary file with a part's bytes has become shorter")
            found += some
        return bytes(found)
