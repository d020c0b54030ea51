"""Pictures as scorers see them: what open_clip's transforms make of them, in uint8 and at a fraction of their cost.

Shape suffixes: S side, C channels. Normalising is left to the model, batch by batch and on its device.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from pretrain.pictures import Fit, Resample, square

VERSION = 1
"""Changes whenever pixels would change."""


def scaled_square(
    pixels: np.ndarray, size: int, fit: Fit, resample: Resample, original: tuple[int, int] | None = None
) -> np.ndarray:
    """(size, size, 3) uint8 of (H, W, 3) uint8, as open_clip's `image_transform` scales and crops it.

    original: height and width of the picture that `pixels` are a reduced copy of, which decide the rounding of the
    crop. For pictures that were not reduced the result is that of Pillow's antialiased filter to within 1 of 255 levels
    in 999 of 1,000 values (torch's kernel, 7 times as fast; beside hard edges it cuts overshoots at another moment).
    Of a JPEG reduced to 1.5 times the size or more, PSNR is at least 30 dB and the embedding's cosine 0.9997 (ViT-B-32,
    150 collages of hard edges). `letterbox`, which is this package's own, goes through `pretrain.pictures`.
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
    # (H, W, C) seen as (1, C, H, W) is torch's fastest layout here; of what may not be written it would warn
    picture = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)[None]
    scaled = F.interpolate(picture, size=target, mode=resample, antialias=True)[0]
    top, left = (round((side - size) / 2.0) for side in target)
    cut = scaled[:, top : top + size, left : left + size].permute(1, 2, 0)
    return np.ascontiguousarray(cut.numpy())
