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
WEIGHT_BITS = 14
"""Of fractions, in 16: at a picture's edge a weight may be larger than 1."""


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
    from pretrain.weighted_rows import combine  # which takes numba along

    num_rows, num_columns, num_channels = pixels_HWC.shape
    support = _SUPPORT[resample]
    rows, row_weights = _weights(num_rows, height, top, size, support)
    columns, column_weights = _weights(num_columns, width, left, size, support)
    last_column = min(columns[-1] + column_weights.shape[1], num_columns)
    low = np.empty((size, last_column - columns[0], num_channels), np.uint8)
    whole = np.ascontiguousarray(pixels_HWC).reshape(num_rows, -1)
    combine(whole, num_channels * columns[0], rows, row_weights, low.reshape(size, -1))
    turned = cv2.transpose(low)
    small = np.empty((size, size, num_channels), np.uint8)
    combine(turned.reshape(len(turned), -1), 0, columns - columns[0], column_weights, small.reshape(size, -1))
    return np.asarray(cv2.transpose(small), np.uint8)


@compiled
def _weights(given: int, wanted: int, first: int, count: int, support: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the results `first` to `first + count` of `wanted`: the first of the `given` rows that each is made of, and
    the weights of it and the rows behind it (count, K), as `weighted_rows.combine` takes them."""
    step = given / wanted
    stretch = max(1.0, step)
    reach, narrowed = support * stretch, 1.0 / stretch
    taps = min(given, int(2 * reach) + 1)
    starts = np.zeros(count, np.int64)
    weights = np.zeros((count, taps - taps % -4 if taps % 4 > 1 else taps), np.int16)
    values = np.zeros(taps)
    for place in range(count):
        centre = (first + place + 0.5) * step
        low = max(0, int(centre - reach + 0.5))
        high = min(given, int(centre + reach + 0.5))
        start = min(low, given - taps)
        starts[place] = start
        total = 0.0
        for row in range(low, high):
            x = abs(row - centre + 0.5) * narrowed
            value = max(0.0, 1.0 - x)
            if support == 2.0:
                if x < 1.0:
                    value = (1.5 * x - 2.5) * x * x + 1.0
                else:
                    value = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0
            values[row - low] = value
            total += value
        scale = (1 << WEIGHT_BITS) / total
        exact, given_out = 0.0, 0  # what is rounded off goes to the next, so that the sum is just 1
        for row in range(low, high):
            exact += values[row - low] * scale
            weights[place, row - start] = int(np.rint(exact)) - given_out
            given_out = int(np.rint(exact))
    return starts, weights
