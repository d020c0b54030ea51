"""Millions of numbers and strings as arrays, gathered in files, which a file can hold and every process map."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_MOST_SMALL = 2**31 - 1
"""Bytes that Arrow's `string` can hold; beyond it is a `large_string`."""


class ArrayWriter:
    """Gathers numbers of one type in a nameless file, so that they take no memory. A context manager."""

    def __init__(self, folder: Path | None, kind: type[np.generic]) -> None:
        """`folder`: where the room is taken; None: where temporary files are."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._kind = np.dtype(kind)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, numbers: np.ndarray) -> None:
        """Append them."""
        if len(numbers):
            self._file.write(np.ascontiguousarray(numbers, self._kind).view(np.uint8).data)

    def done(self) -> np.ndarray:
        """All of them, in their order: pages of the file, which lives as long as they do."""
        self._file.flush()
        count = self._file.tell() // self._kind.itemsize
        return np.memmap(self._file, self._kind, "r", shape=(count,)) if count else np.zeros(0, self._kind)


class Strings:
    """Strings without nulls. `begins` (N + 1) and `letters` (UTF-8) are what a file of arrays holds of them."""

    def __init__(self, begins: np.ndarray, letters: np.ndarray) -> None:
        self.begins, self.letters = begins, letters
        make = pa.StringArray if begins.dtype == np.int32 else pa.LargeStringArray
        self._array = make.from_buffers(len(begins) - 1, pa.py_buffer(begins), pa.py_buffer(letters))

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], name: str) -> Strings:
        """Those that `arrays` wrote down as `name`."""
        return cls(arrays[f"{name} begins"], arrays[f"{name} letters"])

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """What a file has to hold."""
        return {f"{name} begins": self.begins, f"{name} letters": self.letters}

    def take(self, places: pa.Array) -> pa.Array:
        """The strings at these places, null for null."""
        found = self._array.take(places)
        return found if found.type == pa.string() else found.cast(pa.string())


class StringsWriter:
    """Gathers strings in nameless files, so that they take no memory until they are asked for. A context manager."""

    def __init__(self, folder: Path | None) -> None:
        """`folder`: where the room is taken; None: where temporary files are."""
        self._letters, self._lengths = ArrayWriter(folder, np.uint8), ArrayWriter(folder, np.int32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._letters.__exit__()
        self._lengths.__exit__()

    def add(self, strings: pa.Array) -> None:
        """Append them; they have no nulls."""
        if len(strings) == 0:
            return
        self._lengths.add(pc.binary_length(strings).to_numpy())
        _, offsets, data = strings.buffers()
        width = np.int64 if pa.types.is_large_string(strings.type) else np.int32
        begins = np.frombuffer(offsets, width)[strings.offset : strings.offset + len(strings) + 1]
        if begins[-1] > begins[0]:
            self._letters.add(np.frombuffer(data, np.uint8)[begins[0] : begins[-1]])

    def done(self) -> Strings:
        """All of them, in their order; the letters are pages of a file, which lives as long as they do."""
        letters, lengths = self._letters.done(), self._lengths.done()
        begins = np.zeros(len(lengths) + 1, np.int32 if len(letters) <= _MOST_SMALL else np.int64)
        np.cumsum(lengths, out=begins[1:])
        return Strings(begins, letters)
