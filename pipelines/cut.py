"""Order and counts among very many numbers, in little more memory than they take themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from curation.ordered_bins import NUM_BINS, bins


class Cut(NamedTuple):
    """A value, and how many values are above it and equal to it."""

    value: float
    num_above: int
    num_equal: int


def narrow(values: np.ndarray) -> np.ndarray:
    """Finite values (float64) in single precision where that says the same, which stored scores mostly are."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if np.array_equal(single, values) else values


def cut_at(pieces: Sequence[np.ndarray], place: int) -> Cut:
    """The value at `place` (from 1, at most their number) of all finite values in falling order.

    `pieces`: float32 or float64. Memory beyond them: that of one piece and of the values in one bin.
    """
    kind = np.result_type(np.float32, *pieces)
    counts = np.zeros(NUM_BINS, np.int64)
    for piece in pieces:
        counts += np.bincount(bins(piece, kind), minlength=NUM_BINS)
    upto = np.cumsum(counts[::-1])
    at = int(np.searchsorted(upto, place))
    chosen, before = (NUM_BINS) - 1 - at, int(upto[at - 1]) if at else 0
    inside = np.concatenate([piece.astype(kind, copy=False)[bins(piece, kind) == chosen] for piece in pieces])
    from_below = len(inside) - (place - before)
    value = np.partition(inside, from_below)[from_below]
    return Cut(float(value), before + int((inside > value).sum()), int((inside == value).sum()))


def more_than(pieces: list[np.ndarray], at_most: int) -> tuple[np.ndarray, np.ndarray]:
    """uint64, rising: the values that stand more than `at_most` times in the pieces (uint64), which are used up; and
    int64: how often each stands there."""
    values = np.empty(sum(map(len, pieces)), np.uint64)
    end = len(values)
    while pieces:
        piece = pieces.pop()
        values[end - len(piece) : end] = piece
        end -= len(piece)
    values.sort()
    if len(values) <= at_most:
        return values[:0], np.zeros(0, np.int64)
    # in order, a value that stands once more than allowed stands there again so many places further on
    num = len(values) - at_most
    begins = values[at_most:] == values[:num]
    begins[1:] &= values[1:num] != values[: num - 1]
    found: np.ndarray = values[:num][begins]
    counts: np.ndarray = np.searchsorted(values, found, side="right") - np.searchsorted(values, found, side="left")
    return found, counts
