"""Area averages of pictures: one small picture from which all of the duplicate detection is computed.

Everything is done in whole numbers (held in float64, where sums of products below 2^53 are exact), so that the result
is the same on every machine and in every batch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image as PillowImage

from curation.signal import Image

SIDE_PX = 64
SCALE = 16
"""Averages are kept in sixteenths of a grey level."""


@lru_cache(maxsize=4096)
def overlaps(length_px: int, cell_px: int, side_px: int) -> np.ndarray:
    """Overlaps of `side_px` equal stretches of a line with its cells of `cell_px` pixels (the last may be shorter).

    float64 (side_px, number of cells), whole numbers in units of 1/side_px of a pixel; each row sums to `length_px`.
    """
    stretches = np.arange(side_px + 1) * length_px
    cells = np.append(np.arange(0, length_px, cell_px), length_px) * side_px
    lower = np.maximum(stretches[:-1, None], cells[None, :-1])
    upper = np.minimum(stretches[1:, None], cells[None, 1:])
    widths: np.ndarray = np.maximum(upper - lower, 0).astype(np.float64)
    return widths


def area_average(image: Image, side_px: int = SIDE_PX) -> np.ndarray:
    """The picture averaged over `side_px` x `side_px` equal areas, whatever its shape: float64 (side, side, 3), whole
    numbers of 0 to 255 x 16.

    Pictures of twice the size or more are first averaged over blocks of whole pixels, which then count as evenly
    coloured; otherwise it is exact. (Pillow's own BOX filter weighs no fractions of pixels: with it 5% of the pictures
    that are resized to 70% get a perceptual hash 10 bits or more away from the original's.)
    """
    height_px, width_px = image.shape[:2]
    cell_px = max(1, min(height_px, width_px) // side_px)
    cells = image
    if cell_px > 1:
        cells = np.asarray(PillowImage.fromarray(image).reduce(cell_px))
    rows, columns = overlaps(height_px, cell_px, side_px), overlaps(width_px, cell_px, side_px)
    by_row = rows @ cells.reshape(cells.shape[0], -1).astype(np.float64)
    planes = by_row.reshape(side_px, cells.shape[1], 3).transpose(2, 0, 1) @ columns.T
    averages: np.ndarray = np.rint(planes.transpose(1, 2, 0) * SCALE / (height_px * width_px))
    return averages


def shrunk(averages: np.ndarray, side_px: int) -> np.ndarray:
    """(..., n, n, 3) averages as uint8 (..., side_px, side_px, 3) pixels; n is a multiple of side_px."""
    block = averages.shape[-2] // side_px
    blocks = averages.reshape(*averages.shape[:-3], side_px, block, side_px, block, 3)
    sums: np.ndarray = blocks.sum(axis=(-4, -2))
    pixels: np.ndarray = np.rint(sums / (SCALE * block * block)).astype(np.uint8)
    return pixels
