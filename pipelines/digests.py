"""Digests: strings of 32 hexadecimal digits, as every uid of this project is one (`curation.urls.uid`), as numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curation.compiled import compiled

DIGITS = 32
"""Of a digest of 128 bits."""
_OTHER = 128
"""Bit that marks what is no hexadecimal digit."""
_VALUES = np.full(256, _OTHER, np.uint8)
_LETTERS = np.frombuffer(b"0123456789abcdef", np.uint8)
_VALUES[_LETTERS] = np.arange(16)
_PAIRS = np.array([f"{byte:02x}".encode() for byte in range(256)]).view(np.uint16)
"""The two letters of each byte, side by side."""


class Halves(NamedTuple):
    """The numbers that strings spell, uint64 (N) each half, and bool (N): which strings are no digests."""

    high: np.ndarray
    low: np.ndarray
    others: np.ndarray


def letters_of(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """int (N + 1), where each string begins, and uint8, the letters of all (UTF-8). Of `string` or `large_string`."""
    if len(strings) == 0:
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    _, offsets, data = strings.buffers()
    width = np.int64 if pa.types.is_large_string(strings.type) else np.int32
    begins = np.frombuffer(offsets, width)[strings.offset : strings.offset + len(strings) + 1]
    return begins, np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)


def read_digests(begins: np.ndarray, letters: np.ndarray) -> Halves:
    """Of strings as `letters_of` gives them. A number is 0 where the string is no digest."""
    return Halves(*_read(begins, letters, _VALUES))


def spelled(numbers: np.ndarray) -> np.ndarray:
    """uint8 (32 N): the letters of numbers, uint64 (N, 2)."""
    letters: np.ndarray = _PAIRS[numbers.astype(">u8").view(np.uint8)].view(np.uint8).reshape(-1)
    return letters


@compiled
def _read(begins: np.ndarray, letters: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    num = begins.size - 1
    high, low, others = np.zeros(num, np.uint64), np.zeros(num, np.uint64), np.ones(num, np.bool_)
    for row in range(num):
        begin = begins[row]
        if begins[row + 1] - begin != 32:
            continue
        first, second, marks = np.uint64(0), np.uint64(0), np.uint8(0)
        for place in range(16):
            left, right = values[letters[begin + place]], values[letters[begin + place + 16]]
            first = (first << np.uint64(4)) | np.uint64(left)
            second = (second << np.uint64(4)) | np.uint64(right)
            marks |= left | right
        if marks < 16:
            high[row], low[row], others[row] = first, second, False
    return high, low, others
