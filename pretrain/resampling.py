"""Antialiased scaling of uint8 pictures, of just that part of the result which is wanted.

Shape suffixes: H height, W width, C channels, K taps. The weights are Pillow's (`Resample.c`): a cubic kernel with
a = -1/2, or a triangle, widened by the factor of reduction and cut off at the picture's edge. Rows are combined before
columns, since whole rows fit the processor's vectors; Pillow begins with columns.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from curation.compiled import compiled

Resample = Literal["bicubic", "bilinear"]
_SUPPORT = {"bicubic": 2.0, "bilinear": 1.0}
_BLOCK = 512
"""Values: with 16 rows of float32 they take 32 KiB of a first cache of 32 to 48 (the fastest of 256, 512 and 1,024)."""


def scaled_part(
    pixels_HWC: np.ndarray, height: int, width: int, top: int, left: int, size: int, resample: Resample
) -> np.ndarray:
    """(size, size, C) of `pixels_HWC` scaled to height x width, from `top` and `left` on; uint8.

    Within 1 of 255 levels of Pillow's `resize` and a crop in 999 of 1,000 values; more beside hard edges, where
    overshoots are cut after the rows and not after the columns.
    """
    if height > pixels_HWC.shape[0]:  # it grows: most overshoots, and columns first cost no more
        turned = cv2.transpose(np.ascontiguousarray(pixels_HWC))
        return np.asarray(cv2.transpose(_rows_first(turned, width, height, left, top, size, resample)), np.uint8)
    return _rows_first(pixels_HWC, height, width, top, left, size, resample)


def _rows_first(
    pixels_HWC: np.ndarray, height: int, width: int, top: int, left: int, size: int, resample: Resample
) -> np.ndarray:
    num_rows, num_columns, num_channels = pixels_HWC.shape
    support = _SUPPORT[resample]
    rows, row_weights = _weights(num_rows, height, top, size, support)
    columns, column_weights = _weights(num_columns, width, left, size, support)
    last_column = min(columns[-1] + column_weights.shape[1], num_columns)
    low = np.empty((size, last_column - columns[0], num_channels), np.uint8)
    whole = np.ascontiguousarray(pixels_HWC).reshape(num_rows, -1)
    _combine(whole, num_channels * columns[0], rows, row_weights, low.reshape(size, -1))
    turned = cv2.transpose(low)
    small = np.empty((size, size, num_channels), np.uint8)
    _combine(turned.reshape(len(turned), -1), 0, columns - columns[0], column_weights, small.reshape(size, -1))
    return np.asarray(cv2.transpose(small), np.uint8)


@compiled
def _weights(given: int, wanted: int, first: int, count: int, support: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the results `first` to `first + count` of `wanted`: the first of the `given` rows that each is made of, and
    the weights of it and the rows behind it (count, K), which add up to 1. K is filled up to four with weights of 0,
    also of rows behind the last, unless one tap is left over: `_combine` takes four at a time."""
    step = given / wanted
    stretch = max(1.0, step)
    reach = support * stretch
    taps = min(given, int(2 * reach) + 1)
    starts = np.zeros(count, np.int64)
    weights = np.zeros((count, taps - taps % -4 if taps % 4 > 1 else taps), np.float32)
    for place in range(count):
        centre = (first + place + 0.5) * step
        low = max(0, int(centre - reach + 0.5))
        high = min(given, int(centre + reach + 0.5))
        start = min(low, given - taps)
        starts[place] = start
        total = 0.0
        for row in range(low, high):
            x = abs(row - centre + 0.5) / stretch
            value = max(0.0, 1.0 - x)
            if support == 2.0:
                if x < 1.0:
                    value = (1.5 * x - 2.5) * x * x + 1.0
                else:
                    value = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0
            weights[place, row - start] = value
            total += value
        weights[place] /= total
    return starts, weights


def _combine(rows_HN: np.ndarray, first: int, starts: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """out[i] = the rows from starts[i] on, each from its value `first` on, weighted by weights[i], rounded."""
    combine = _combine_four if weights.shape[1] == 4 else _combine_many
    combine(rows_HN, first, starts, weights, out)


@compiled
def _combine_many(rows_HN: np.ndarray, first: int, starts: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """`_combine` of any number of rows each.

    Block by block of values, so that the last rows, each made float32 once, stay in the processor's first cache; four
    rows at a time, so that the sums are read and written a quarter as often: two thirds of the time of a loop row by
    row over whole rows, and the same values.
    """
    num_taps = weights.shape[1]
    num_kept = 1
    while num_kept < num_taps:
        num_kept *= 2
    last = num_kept - 1  # row r is kept at r & last
    kept = np.zeros((num_kept, _BLOCK), np.float32)
    sums = np.empty(_BLOCK, np.float32)
    half, lowest, highest = np.float32(0.5), np.int32(0), np.int32(255)  # cut as integers: in half the time
    for left in range(0, out.shape[1], _BLOCK):
        num = min(_BLOCK, out.shape[1] - left)
        ready = starts[0]
        for place in range(out.shape[0]):
            start = starts[place]
            while ready < min(start + num_taps, len(rows_HN)):
                row = rows_HN[ready, first + left : first + left + num]
                floats = kept[ready & last]
                for x in range(num):
                    floats[x] = np.float32(row[x])
                ready += 1
            sums[:] = half
            tap = 0
            while tap + 3 < num_taps:
                a, b = kept[(start + tap) & last], kept[(start + tap + 1) & last]
                c, d = kept[(start + tap + 2) & last], kept[(start + tap + 3) & last]
                of_a, of_b = weights[place, tap], weights[place, tap + 1]
                of_c, of_d = weights[place, tap + 2], weights[place, tap + 3]
                for x in range(num):
                    sums[x] = sums[x] + of_a * a[x] + of_b * b[x] + of_c * c[x] + of_d * d[x]
                tap += 4
            while tap < num_taps:
                weight = weights[place, tap]
                if weight != 0:
                    a = kept[(start + tap) & last]
                    for x in range(num):
                        sums[x] += weight * a[x]
                tap += 1
            made = out[place, left : left + num]
            for x in range(num):
                made[x] = np.uint8(min(highest, max(lowest, np.int32(sums[x]))))


@compiled
def _combine_four(rows_HN: np.ndarray, first: int, starts: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """`_combine` of four rows each, which needs no sums."""
    num, behind = out.shape[1], len(rows_HN) - 1
    half, lowest, highest = np.float32(0.5), np.int32(0), np.int32(255)  # cut as integers: in half the time
    for place in range(out.shape[0]):
        start, made = starts[place], out[place]
        a = rows_HN[start, first : first + num]
        b = rows_HN[min(start + 1, behind), first : first + num]
        c = rows_HN[min(start + 2, behind), first : first + num]
        d = rows_HN[min(start + 3, behind), first : first + num]
        of_a, of_b = weights[place, 0], weights[place, 1]
        of_c, of_d = weights[place, 2], weights[place, 3]
        for x in range(num):
            value = half + of_a * np.float32(a[x]) + of_b * np.float32(b[x])
            value = value + of_c * np.float32(c[x]) + of_d * np.float32(d[x])
            made[x] = np.uint8(min(highest, max(lowest, np.int32(value))))
