"""Augmentation as batched tensor operations whose random numbers depend on (seed, epoch, sample) only.

Crop and colour, never a flip: captions name letters, hands and directions. Shape suffixes: B pictures, C H W.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.keyed import U64, key, uniform

SCALE = (0.8, 1.05)
"""Side of the window that is seen, relative to the picture; above 1 a white margin is added."""
SHIFT = 0.1
"""Farthest shift of the window's centre, relative to the picture's side."""
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.2, 0.2
"""Largest relative change of each; strengths after open_clip's `--aug-cfg color_jitter` examples, halved."""


class _Draws:
    """Keyed numbers of the samples of one batch, on its device."""

    def __init__(self, sample_B: U64, seed: int, epoch_B: np.ndarray, device: torch.device) -> None:
        with np.errstate(over="ignore"):
            self._own_B = sample_B + epoch_B.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self._seed, self._device = seed, device

    def __call__(self, name: str, low: float, high: float) -> Tensor:
        values = low + (high - low) * uniform(self._own_B, key("augment", self._seed, name))
        return torch.from_numpy(values).to(self._device)


def augment(image_BCHW: Tensor, sample_B: U64, seed: int, epoch_B: np.ndarray) -> Tensor:
    """Cropped and coloured pictures in 0..1, each depending on its own sample hash and epoch only."""
    draw = _Draws(sample_B, seed, epoch_B, image_BCHW.device)
    theta_B23 = torch.zeros(len(sample_B), 2, 3, device=image_BCHW.device)
    theta_B23[:, 0, 0] = theta_B23[:, 1, 1] = draw("scale", *SCALE)
    theta_B23[:, 0, 2] = draw("x", -2 * SHIFT, 2 * SHIFT)  # in units of half a side
    theta_B23[:, 1, 2] = draw("y", -2 * SHIFT, 2 * SHIFT)
    grid = F.affine_grid(theta_B23, list(image_BCHW.shape), align_corners=False)
    # Outside the picture lies white: shift by one so that grid_sample's zero padding means white.
    cropped = F.grid_sample(image_BCHW - 1, grid, align_corners=False) + 1
    return _recolour(cropped, draw)


def recolour(image_BCHW: Tensor, sample_B: U64, seed: int, epoch_B: np.ndarray) -> Tensor:
    """The colours' part of `augment`, for pictures whose windows were cut while they were decoded."""
    return _recolour(image_BCHW, _Draws(sample_B, seed, epoch_B, image_BCHW.device))


def _recolour(image_BCHW: Tensor, draw: _Draws) -> Tensor:
    return jitter(
        image_BCHW,
        draw("brightness", 1 - BRIGHTNESS, 1 + BRIGHTNESS),
        draw("contrast", 1 - CONTRAST, 1 + CONTRAST),
        draw("saturation", 1 - SATURATION, 1 + SATURATION),
    )


def jitter(image_BCHW: Tensor, brightness_B: Tensor, contrast_B: Tensor, saturation_B: Tensor) -> Tensor:
    """Pictures with changed brightness, contrast (about the mean) and saturation (about grey), clamped to 0..1."""
    view = (-1, 1, 1, 1)
    image = image_BCHW * brightness_B.view(view)
    middle = image.mean(dim=(1, 2, 3), keepdim=True)
    image = (image - middle) * contrast_B.view(view) + middle
    grey = image.mean(dim=1, keepdim=True)
    return ((image - grey) * saturation_B.view(view) + grey).clamp_(0, 1)
