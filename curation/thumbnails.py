"""Area averages of pictures: one small picture from which all of the duplicate detection is computed.

Everything is done in whole numbers, so that the result is the same on every machine and in every batch.
"""

from __future__ import annotations

import numpy as np

from curation.signal import Image

SIDE_PX = 64
SCALE = 16
"""Averages are kept in sixteenths of a grey level."""
_MAX_SHORT_SIDE_PX = 256
"""Pictures of twice this or more are first averaged over blocks of whole pixels, which is cheaper."""


def area_average(image: Image, side_px: int = SIDE_PX) -> np.ndarray:
    """The picture averaged over `side_px` x `side_px` equal areas, whatever its shape.

    float64 (side, side, 3), whole numbers of 0 to 255 x 16. Exact for pictures of less than 512 pixels on the shorter
    side; of larger ones, blocks of 2 x 2 pixels or more count as evenly coloured. (Pillow's BOX filter weighs no
    fractions of pixels: with it 5% of the pictures that are resized to 70% get a perceptual hash 10 bits or more away
    from the original's.)
    """
    height_px, width_px = image.shape[:2]
    cell_px = max(1, min(height_px, width_px) // _MAX_SHORT_SIDE_PX)
    cells = _reduced(image, cell_px) if cell_px > 1 else image
    by_row = _stretch_sums(cells, height_px, cell_px, side_px)
    sums = _stretch_sums(by_row.swapaxes(0, 1), width_px, cell_px, side_px).swapaxes(0, 1)
    averages: np.ndarray = np.rint(sums * SCALE / (height_px * width_px))
    return averages


def _reduced(image: Image, times: int) -> np.ndarray:
    from PIL import Image as PillowImage  # which the driver, who reads names from here, does without

    return np.asarray(PillowImage.fromarray(image).reduce(times))


def _stretch_sums(cells: np.ndarray, length_px: int, cell_px: int, side_px: int) -> np.ndarray:
    """int64 (side_px, ...): sums over `side_px` equal stretches of the first axis, in units of 1/side_px of a pixel.

    `cells` (n, ...) stand for `cell_px` pixels each, the last for what is left of `length_px`. Running sums make it
    cost one addition a cell, however the stretches fall.
    """
    widths = np.minimum(cell_px, length_px - np.arange(len(cells)) * cell_px)
    running = np.zeros((len(cells) + 1, *cells.shape[1:]), np.int64)
    np.cumsum(cells if cell_px == 1 else cells * _along(widths, cells), axis=0, dtype=np.int64, out=running[1:])
    edges = np.arange(side_px + 1) * length_px  # in units of 1/side_px pixel
    cell = np.minimum(edges // (cell_px * side_px), len(cells) - 1)
    beyond = edges - cell * cell_px * side_px
    inside = cells[cell].astype(np.int64)
    up_to_edge = running[cell] * side_px + inside * _along(beyond, inside)
    sums: np.ndarray = np.diff(up_to_edge, axis=0)
    return sums


def _along(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def shrunk(averages: np.ndarray, side_px: int) -> np.ndarray:
    """(..., n, n, 3) averages as uint8 (..., side_px, side_px, 3) pixels; n is a multiple of side_px."""
    block = averages.shape[-2] // side_px
    blocks = averages.reshape(*averages.shape[:-3], side_px, block, side_px, block, 3)
    sums: np.ndarray = blocks.sum(axis=(-4, -2))
    pixels: np.ndarray = np.rint(sums / (SCALE * block * block)).astype(np.uint8)
    return pixels
