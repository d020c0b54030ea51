"""Places of uids among millions of known ones, by the number of 128 bits that a uid is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import xxhash

from curation.compiled import compiled
from pipelines.digests import letters_of, read_digests

_PIECE = 1 << 20
"""Uids that are looked up at a time."""


@dataclass(frozen=True)
class Keys:
    """Strings as numbers of 128 bits, uint64 (N) each half.

    Digests, as every uid of this project is one, are the number that they spell: as exact as the string, and in its
    order. Any other string is its XXH3 of 128 bits; that two of N have the same is less likely than N^2 / 2^129, the
    chance of two equal uids.
    """

    high: np.ndarray
    low: np.ndarray

    @classmethod
    def of(cls, strings: pa.Array) -> Self:
        """Of `string` or `large_string` without nulls."""
        begins, letters = letters_of(strings)
        high, low, others = read_digests(begins, letters)
        for row in np.flatnonzero(others).tolist():
            number = xxhash.xxh3_128_intdigest(letters[begins[row] : begins[row + 1]].tobytes())
            high[row], low[row] = number >> 64, number & (1 << 64) - 1
        return cls(high, low)

    @classmethod
    def room(cls, num: int) -> Self:
        """For so many, yet unwritten."""
        return cls(np.empty(num, np.uint64), np.empty(num, np.uint64))

    def put(self, begin: int, some: Keys) -> None:
        """Write some from a place on."""
        end = begin + len(some.high)
        self.high[begin:end], self.low[begin:end] = some.high, some.low

    def __getitem__(self, places: slice) -> Keys:
        return Keys(self.high[places], self.low[places])

    @classmethod
    def joined(cls, pieces: list[Keys]) -> Self:
        """One after the other. The pieces are used up, so that no two copies of all are there at a time."""
        num = sum(len(piece.high) for piece in pieces)
        whole = cls.room(num)
        while pieces:
            piece = pieces.pop()
            num -= len(piece.high)
            whole.put(num, piece)
        return whole


class UidIndex:
    """Different known uids. Memory: 17 bytes for each, 21 where their keys are not in rising order."""

    def __init__(self, known: Keys) -> None:
        """`known`: none of them twice. Digests lie evenly, so one that is looked for is among the few that begin as it
        does; others are found, too, if more slowly."""
        high, low = known.high, known.low
        self._places: np.ndarray | None = None
        if not _rises(high, low):
            order = np.lexsort((low, high))
            high, low, self._places = high[order], low[order], order.astype(np.int32)
        self._high, self._low = high, low
        bits = max(1, int(np.log2(max(1, len(high)))) - 2)
        self._shift = np.uint64(64 - bits)
        self._first = _first_of_each(high, self._shift, bits)

    def find(self, wanted: pa.Array) -> np.ndarray:
        """int32: the place of each among the known uids; -1 for others and for nulls. Memory: 4 bytes for each."""
        pieces = (wanted.slice(start, _PIECE) for start in range(0, len(wanted), _PIECE))
        return np.concatenate([np.zeros(0, np.int32), *map(self._find, pieces)])

    def _find(self, wanted: pa.Array) -> np.ndarray:
        if not wanted.null_count:
            return self.find_keys(Keys.of(wanted))
        found = np.full(len(wanted), -1, np.int32)
        found[wanted.is_valid().to_numpy(zero_copy_only=False)] = self.find_keys(Keys.of(wanted.drop_null()))
        return found

    def find_keys(self, wanted: Keys) -> np.ndarray:
        """int32: the place of each among the known uids; -1 for others."""
        at: np.ndarray = _find(wanted.high, wanted.low, self._high, self._low, self._first, self._shift)
        if self._places is not None and len(self._places):
            at = np.where(at < 0, np.int32(-1), self._places[at])
        return at


@compiled
def _rises(high: np.ndarray, low: np.ndarray) -> bool:
    for place in range(1, high.size):
        before = place - 1
        if high[place] < high[before] or (high[place] == high[before] and low[place] <= low[before]):
            return False
    return True


@compiled
def _first_of_each(high: np.ndarray, shift: np.uint64, bits: int) -> np.ndarray:
    """int32 (2^bits + 1): the first place whose key begins with these bits, or with larger ones."""
    first = np.full((1 << bits) + 1, high.size, np.int32)
    reached = np.int64(0)
    for place in range(high.size):
        head = np.int64(high[place] >> shift)
        while reached <= head:
            first[reached] = place
            reached += np.int64(1)
    return first


@compiled
def _find(
    wanted_high: np.ndarray,
    wanted_low: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    first: np.ndarray,
    shift: np.uint64,
) -> np.ndarray:
    """The place of each in rising numbers; -1 where it is not there."""
    found = np.full(wanted_high.size, -1, np.int32)
    for row in range(wanted_high.size):
        upper, lower = wanted_high[row], wanted_low[row]
        head = np.int64(upper >> shift)
        begin, end = np.int64(first[head]), np.int64(first[head + 1])
        while begin < end:
            middle = (begin + end) // 2
            if high[middle] < upper or (high[middle] == upper and low[middle] < lower):
                begin = middle + 1
            else:
                end = middle
        # behind the last of these bits there is another, or nothing
        if begin < high.size and high[begin] == upper and low[begin] == lower:
            found[row] = begin
    return found
