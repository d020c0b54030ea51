"""Perceptual hashes: 64 bits that stay (nearly) the same when a picture is resized, re-encoded, marked or mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.signal import Image, ImageSignal
from curation.thumbnails import SCALE, SIDE_PX, area_average, shrunk

# Shapes: N pictures, Y and X pixels, V and U frequencies down and across, C colours.

THUMBNAIL_PX = 32
CROP_SIDE = 0.95
"""Sides of the inner windows that are hashed too, as a share of the picture's."""
CROP_WINDOWS = ((0.0, 0.0), (0.0, 0.05), (0.05, 0.0), (0.05, 0.05), (0.025, 0.025))
"""Top and left of the windows: the four corners and the middle."""
DEAD_ZONE = 0.06
"""How far above the median a coefficient must be to set its bit, in root mean squares of the coefficients. Symmetric
drawings have many coefficients that are zero but for noise; with the plain median 2% of JPEG copies are 10 bits away or
more, with this none is more than 5 (796 Tux Paint stamps)."""
MIN_CONTRAST = 4.0
"""Standard deviation of luminance, in grey levels, below which a picture is blank: its hash would be that of noise."""

_LUMA = np.array([299.0, 587.0, 114.0])  # ITU-R BT.601, in thousandths
_FREQUENCIES = 8
_GRAY_PX = 32
_ODD_ACROSS = np.where(np.arange(_FREQUENCIES) % 2, -1.0, 1.0)


def _cosines(begin: float, side: float) -> np.ndarray:
    """(8, SIDE_PX) whole numbers: area averaging of a window to 32 pixels, then the DCT-II basis (times a constant)."""
    frequencies, positions = np.arange(_FREQUENCIES)[:, None], np.arange(_GRAY_PX)[None]
    basis = np.cos(np.pi * frequencies * (2 * positions + 1) / (2 * _GRAY_PX))
    edges = (begin + np.arange(_GRAY_PX + 1) * side / _GRAY_PX) * SIDE_PX
    cells = np.arange(SIDE_PX + 1)
    overlap = np.minimum(edges[1:, None], cells[None, 1:]) - np.maximum(edges[:-1, None], cells[None, :-1])
    weights: np.ndarray = np.rint(basis @ np.maximum(overlap, 0) * 2**9)
    return weights


_WHOLE = _cosines(0.0, 1.0)


def hash_bits(coefficients_NVU: np.ndarray) -> np.ndarray:
    """uint64 (N): bit 63 is the constant, then row by row; set where a coefficient exceeds median and dead zone."""
    flat = coefficients_NVU.reshape(len(coefficients_NVU), _FREQUENCIES * _FREQUENCIES)
    median = np.median(flat, axis=1, keepdims=True)
    spread = np.sqrt((flat[:, 1:] ** 2).mean(axis=1, keepdims=True))
    packed = np.packbits(flat > median + DEAD_ZONE * spread, axis=1)
    return packed.view(">u8")[:, 0].astype(np.uint64)


class PerceptualHash(ImageSignal):
    """pHash of the picture, of its mirror image and of five inner windows, and a thumbnail to verify matches with.

    Columns: `phash` (uint64: the 8 x 8 lowest DCT-II frequencies of the luminance averaged over 32 x 32 areas, one bit
    each, set above the median plus a small dead zone); `phash_mirror` (the `phash` that the mirrored picture has, from
    the same coefficients: mirroring changes the sign of the odd ones); `phash_crops` (of the windows `CROP_WINDOWS`
    with 95% of the sides: copies that lost a border of about 5% match one of them); `thumbnail` (32 x 32 x 3 bytes,
    RGB area averages row by row, for `curation.near_duplicates.confirm`). The hashes are null for pictures of almost
    one colour (standard deviation below `MIN_CONTRAST` grey levels), whose bits would be noise; the thumbnail is not.
    Range: any 64 bits; distance is the number of differing bits (0-64; unrelated pictures about 32). Unit: bits.
    Model: none. Source: pHash (Zauner 2010) as in the common implementations, but for the exact area averages, the
    dead zone and the windows, which are this project's.
    """

    version: ClassVar[int] = 2

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "phash": pa.uint64(),
                "phash_mirror": pa.uint64(),
                "phash_crops": pa.list_(pa.uint64(), len(CROP_WINDOWS)),
                "thumbnail": pa.binary(THUMBNAIL_PX * THUMBNAIL_PX * 3),
            }
        )

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        present = [k for k, image in enumerate(images) if image is not None]
        averages_NYXC = np.zeros((len(present), SIDE_PX, SIDE_PX, 3))
        for row, k in enumerate(present):
            image = images[k]
            assert image is not None
            averages_NYXC[row] = area_average(image)
        gray_NYX = averages_NYXC @ _LUMA
        contrast = gray_NYX.std(axis=(1, 2)) / (1000 * SCALE)
        hashed = np.flatnonzero(contrast >= MIN_CONTRAST)
        gray_NYX = gray_NYX[hashed]
        coefficients_NVU = _WHOLE @ gray_NYX @ _WHOLE.T
        windows = [
            hash_bits(_cosines(top, CROP_SIDE) @ gray_NYX @ _cosines(left, CROP_SIDE).T) for top, left in CROP_WINDOWS
        ]
        rows = np.array(present, dtype=np.int64)[hashed]
        phash: list[object] = [None] * len(images)
        mirror: list[object] = [None] * len(images)
        crops: list[object] = [None] * len(images)
        values = zip(hash_bits(coefficients_NVU), hash_bits(coefficients_NVU * _ODD_ACROSS), *windows, strict=True)
        for row, (whole, mirrored, *inner) in zip(rows.tolist(), values, strict=True):
            phash[row], mirror[row], crops[row] = int(whole), int(mirrored), [int(one) for one in inner]
        thumbnails: list[object] = [None] * len(images)
        for row, pixels in zip(present, shrunk(averages_NYXC, THUMBNAIL_PX), strict=True):
            thumbnails[row] = pixels.tobytes()
        return {"phash": phash, "phash_mirror": mirror, "phash_crops": crops, "thumbnail": thumbnails}
