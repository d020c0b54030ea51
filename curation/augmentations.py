"""Augmentations with stored parameters: what a teacher saw of a picture can be shown to a student again, exactly.

Shapes: K views, P parameters, S side, C channels.
"""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image as PillowImage

PARAMETERS = ("left", "top", "right", "bottom", "brightness", "contrast", "saturation")
"""Of one view: a window, as shares (0-1) of width and height; then factors around 1."""
MAX_ASPECT = 4 / 3
"""Longer over shorter side of the window in pixels, as torchvision's RandomResizedCrop."""
STRENGTH = 0.4
"""Largest relative change of brightness, contrast and saturation (SimCLR's, halved)."""


def drawn_parameters(image: np.ndarray, num_views: int, min_area: float, seed: int) -> np.ndarray:
    """(K, P) float32 for a (H, W, 3) uint8 picture: of its own pixels and the seed alone, whatever else is in a batch.

    min_area: smallest share of the picture that a window shows. The first view is the whole picture unchanged.
    """
    height, width = image.shape[:2]
    key = hashlib.blake2b(f"{seed} {height} {width} ".encode() + np.ascontiguousarray(image).tobytes(), digest_size=16)
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key.digest(), "little")))
    found = np.empty((num_views, len(PARAMETERS)), np.float32)
    for k in range(num_views):
        area, turn, x, y = rng.uniform((min_area, -1.0, 0.0, 0.0), 1.0)
        aspect = MAX_ASPECT**turn
        # share of the width; the aspect gives way where the window would not fit into the picture
        wide = float(np.clip(np.sqrt(area * aspect * height / width), area, 1.0))
        high = area / wide
        left, top = x * (1 - wide), y * (1 - high)
        found[k] = (left, top, left + wide, top + high, *rng.uniform(1 - STRENGTH, 1 + STRENGTH, 3))
    found[:1] = (0, 0, 1, 1, 1, 1, 1)
    return found


def augmented(image: np.ndarray, parameters_P: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3) uint8: the window of a (H, W, 3) uint8 picture, scaled (bicubic, antialiased) and coloured.

    The windows are shares, so a larger or smaller copy of the picture gives the same view to within the filter.
    Brightness is a factor; contrast works about the view's mean, saturation about each pixel's mean, in that order.
    """
    left, top, right, bottom, brightness, contrast, saturation = (float(value) for value in parameters_P)
    height, width = image.shape[:2]
    box = (left * width, top * height, min(right, 1.0) * width, min(bottom, 1.0) * height)
    window = PillowImage.fromarray(image).resize((size, size), PillowImage.Resampling.BICUBIC, box=box)
    pixels = np.asarray(window, np.float32) * brightness
    middle = pixels.mean()
    pixels = (pixels - middle) * contrast + middle
    grey = pixels.mean(axis=2, keepdims=True)
    coloured: np.ndarray = np.clip(np.rint((pixels - grey) * saturation + grey), 0, 255).astype(np.uint8)
    return coloured
