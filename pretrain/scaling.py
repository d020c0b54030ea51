"""Pictures as scorers see them: what open_clip's transforms make of them, in uint8 and at a fraction of their cost.

Shape suffixes: S side, C channels. Normalising is left to the model, batch by batch and on its device.
"""

from __future__ import annotations

import numpy as np

from pretrain.pictures import Fit, Resample, square
from pretrain.resampling import scaled_part

VERSION = 3
"""Changes whenever pixels would change."""


def scaled_square(
    pixels: np.ndarray, size: int, fit: Fit, resample: Resample, original: tuple[int, int] | None = None
) -> np.ndarray:
    """(size, size, 3) uint8 of (H, W, 3) uint8, as open_clip's `image_transform` scales and crops it.

    original: height and width of the picture that `pixels` are a reduced copy of, which decide the rounding of the
    crop. For pictures that were not reduced the result is that of Pillow's antialiased filter to within 1 of 255 levels
    in 999 of 1,000 values (`pretrain.resampling`; beside hard edges it cuts overshoots at another moment). Of a JPEG
    reduced to 1.25 times the size or more, PSNR is at least 25 dB (median 44) and the embedding's cosine 0.9997
    (ViT-B-32, 120 collages of hard edges). `letterbox`, which is this package's own, goes through `pretrain.pictures`.
    Source: open_clip 3.3 `transform.image_transform`; torchvision 0.29 `resize`, `center_crop`.
    """
    if fit == "letterbox" or pixels.shape[:2] == (size, size):
        return square(pixels, size, fit, resample)
    height, width = original or pixels.shape[:2]
    if fit == "squash":
        target = size, size
    elif height <= width:
        target = size, int(size * width / height)
    else:
        target = int(size * height / width), size
    top, left = (round((side - size) / 2.0) for side in target)
    return scaled_part(pixels, *target, top, left, size, resample)
