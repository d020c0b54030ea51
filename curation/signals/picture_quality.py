"""Picture quality: sharpness, detail, colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np
import pyarrow as pa

from curation.signal import Image, ImageSignal

EDGE_LEVELS = 32.0
"""Gradient (Sobel, levels a pixel, times 8) from which a pixel counts as an edge: above the noise of JPEG at q75."""


class PictureQuality(ImageSignal):
    """Figures by which blurred, empty and colourless pictures are told from the others.

    Columns: `sharpness` (0 or more: variance of the Laplacian of luminance; NeMo Curator drops below 100; depends on
    the size, so it is measured on the picture shrunk to at most 512 pixels on its shorter side); `edge_share` (0-1:
    share of the pixels with a gradient of 4 levels a pixel or more; near 0 for pictures with little in them);
    `colorfulness` (0 or more; about 0 for grey, 15 slightly, 33 moderately, 60 and more highly colourful). Unit: as
    said. Model: none. Source: Pech-Pacheco et al. 2000 (Laplacian); Hasler and Suesstrunk 2003 (colourfulness).
    """

    version: ClassVar[int] = 1

    def writes(self) -> pa.Schema:
        return pa.schema({name: pa.float32() for name in ("sharpness", "edge_share", "colorfulness")})

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        rows = [_quality(image) if image is not None else (None,) * 3 for image in images]
        return {name: [row[k] for row in rows] for k, name in enumerate(self.writes().names)}


def _quality(image: Image) -> tuple[float, float, float]:
    luminance = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    sharpness = float(cv2.Laplacian(luminance, cv2.CV_64F).var())
    across, down = (cv2.Sobel(luminance, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    edges = float((np.hypot(across, down) >= EDGE_LEVELS).mean())
    red, green, blue = (image[..., channel].astype(np.float32) for channel in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(float(red_green.std()), float(yellow_blue.std()))
    middle = np.hypot(float(red_green.mean()), float(yellow_blue.mean()))
    return sharpness, edges, float(spread + 0.3 * middle)
