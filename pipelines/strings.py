"""Millions of numbers and strings as arrays, gathered in files, which a file can hold and every process map."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

import numpy as np
import pyarrow as pa

from pipelines.digests import DIGITS, letters_of, read_digests, spelled

_MOST_SMALL = 2**31 - 1
"""Bytes that Arrow's `string` can hold; beyond it is a `large_string`."""
_PIECE = 1 << 20
"""Digests that are spelled out at a time."""


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

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """What a file has to hold."""
        return {f"{name} begins": self.begins, f"{name} letters": self.letters}

    def take(self, places: pa.Array) -> pa.Array:
        """The strings at these places, null for null."""
        found = self._array.take(places)
        return found if found.type == pa.string() else found.cast(pa.string())


class Digests:
    """Strings of 32 hexadecimal digits each, such as uids, in 16 bytes each: `numbers` is uint64 (N, 2)."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """What a file has to hold."""
        return {f"{name} numbers": self.numbers}

    def take(self, places: pa.Array) -> pa.Array:
        """The strings at these places, null for null."""
        valid = places.is_valid().to_numpy(zero_copy_only=False)
        letters = spelled(self.numbers[places.drop_null().to_numpy()])
        begins = np.zeros(len(places) + 1, np.int64)
        np.cumsum(np.where(valid, DIGITS, 0), out=begins[1:])
        bits = np.packbits(valid, bitorder="little")
        buffers = [pa.py_buffer(begins), pa.py_buffer(letters), pa.py_buffer(bits)]
        return pa.LargeStringArray.from_buffers(len(places), *buffers).cast(pa.string())


def strings_of(arrays: Mapping[str, np.ndarray], name: str) -> Strings | Digests:
    """Those that `arrays` wrote down as `name`."""
    if f"{name} numbers" in arrays:
        return Digests(arrays[f"{name} numbers"])
    return Strings(arrays[f"{name} begins"], arrays[f"{name} letters"])


class StringsWriter:
    """Gathers strings in nameless files, so that they take no memory until they are asked for. A context manager."""

    def __init__(self, folder: Path | None) -> None:
        """`folder`: where the room is taken; None: where temporary files are."""
        self._letters, self._lengths = ArrayWriter(folder, np.uint8), ArrayWriter(folder, np.int32)
        self._numbers = ArrayWriter(folder, np.uint64)
        self._all_digests = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in (self._letters, self._lengths, self._numbers):
            writer.__exit__()

    def add(self, strings: pa.Array) -> None:
        """Append them; they have no nulls."""
        begins, letters = letters_of(strings)
        if self._all_digests:
            high, low, others = read_digests(begins, letters)
            if not others.any():
                self._numbers.add(np.stack([high, low], axis=1).reshape(-1))
                return
            self._all_digests = False
            self._spell_out()
        self._letters.add(letters[begins[0] : begins[-1]])
        self._lengths.add(np.diff(begins))

    def _spell_out(self) -> None:
        """Append the letters of the digests that came before a string that is none."""
        numbers = self._numbers.done().reshape(-1, 2)
        for start in range(0, len(numbers), _PIECE):
            piece = numbers[start : start + _PIECE]
            self._letters.add(spelled(piece))
            self._lengths.add(np.full(len(piece), DIGITS, np.int32))

    def done(self) -> Strings | Digests:
        """All of them, in their order; they are pages of a file, which lives as long as they do."""
        if self._all_digests:
            return Digests(self._numbers.done().reshape(-1, 2))
        letters, lengths = self._letters.done(), self._lengths.done()
        begins = np.zeros(len(lengths) + 1, np.int32 if len(letters) <= _MOST_SMALL else np.int64)
        np.cumsum(lengths, out=begins[1:])
        return Strings(begins, letters)
