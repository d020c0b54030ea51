"""Perceptual hashes: 64 bits that stay (nearly) the same when a picture is resized, re-encoded, marked or mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
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
"""Standard deviation of luminance, in grey levels, below which a picture is blank: its hash would be that of noise. The
same of blue minus luminance, below which it is without colour."""
LOOK_BYTES = 16

_LUMA = np.array([299.0, 587.0, 114.0])  # ITU-R BT.601, in thousandths
_BLUE = np.array([-299.0, -587.0, 886.0])  # blue minus luminance (the direction of Cb), in thousandths
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
    """pHash of the picture, its colours, its mirror image and five inner windows, and a thumbnail to verify matches
    with.

    Columns: `look` (16 bytes, BLAKE2b of all the others: equal where two pictures cannot be told apart by them; null
    where there are no hashes); `phash` (uint64: the 8 x 8 lowest DCT-II frequencies of the luminance averaged over 32
    x 32 areas, one bit each, set above the median plus a small dead zone); `phash_color` (the same of blue minus
    luminance, which a grey or white or black overlay leaves where there is no colour and only weakens where there is:
    of 469 coloured Tux Paint stamps with a half-transparent word across, 99% are within 8 bits, against 96% by
    luminance; null for pictures of no colour); `phash_mirror` (the `phash` that the mirrored picture has, from the
    same coefficients: mirroring changes the sign of the odd ones); `phash_crops` (of the windows `CROP_WINDOWS` with
    95% of the sides: copies that lost a border of about 5% match one of them); `thumbnail` (32 x 32 x 3 bytes, RGB
    area averages row by row, for `curation.near_duplicates.confirm`). The hashes are null for pictures of almost one
    colour (standard deviation below `MIN_CONTRAST` grey levels), whose bits would be noise; the thumbnail is not.
    Range: any 64 bits; distance is the number of differing bits (0-64; unrelated pictures about 32). Unit: bits.
    Model: none. Source: pHash (Zauner 2010) as in the common implementations, but for the exact area averages, the
    dead zone and the windows, which are this project's.
    """

    version: ClassVar[int] = 2

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "look": pa.binary(LOOK_BYTES),
                "phash": pa.uint64(),
                "phash_color": pa.uint64(),
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
        gray_NYX, hashed = _with_contrast(averages_NYXC @ _LUMA)
        coefficients_NVU = _WHOLE @ gray_NYX @ _WHOLE.T
        windows = [
            hash_bits(_cosines(top, CROP_SIDE) @ gray_NYX @ _cosines(left, CROP_SIDE).T) for top, left in CROP_WINDOWS
        ]
        blue_NYX, colored = _with_contrast(averages_NYXC @ _BLUE)
        colors = dict(zip(colored.tolist(), hash_bits(_WHOLE @ blue_NYX @ _WHOLE.T).tolist(), strict=True))
        thumbnails = [pixels.tobytes() for pixels in shrunk(averages_NYXC, THUMBNAIL_PX)]
        columns: dict[str, list[object]] = {name: [None] * len(images) for name in self.writes().names}
        for row, k in enumerate(present):
            columns["thumbnail"][k] = thumbnails[row]
        values = zip(hash_bits(coefficients_NVU), hash_bits(coefficients_NVU * _ODD_ACROSS), *windows, strict=True)
        for row, hashes in zip(hashed.tolist(), values, strict=True):
            k, color = present[row], colors.get(row)
            columns["phash"][k], columns["phash_mirror"][k], columns["phash_color"][k] = *map(int, hashes[:2]), color
            columns["phash_crops"][k] = [int(one) for one in hashes[2:]]
            columns["look"][k] = _look([int(one) for one in hashes], color, thumbnails[row])
        return dict(columns)


def _with_contrast(plane_NYX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The planes that are not of one value, and which they are."""
    rows = np.flatnonzero(plane_NYX.std(axis=(1, 2)) / (1000 * SCALE) >= MIN_CONTRAST)
    return plane_NYX[rows], rows


def _look(hashes: list[int], color: int | None, thumbnail: bytes) -> bytes:
    numbers = b"".join(one.to_bytes(8, "big") for one in hashes)
    colored = b"\0" if color is None else b"\1" + color.to_bytes(8, "big")
    return blake2b(numbers + colored + thumbnail, digest_size=LOOK_BYTES).digest()
