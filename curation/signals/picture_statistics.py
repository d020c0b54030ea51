"""Picture statistics: how much there is to see in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image as PillowImage

from curation.signal import Image, ImageSignal


class PictureStatistics(ImageSignal):
    """Figures by which blank and nearly blank pictures, flat graphics and line drawings are told from the others.

    Columns: `luminance_entropy_bits` (0-8: Shannon entropy of the histogram of 256 luminance levels; 0 for one
    colour, about 7 for photographs); `luminance_mean` (0-255 grey levels); `luminance_std` (0-127.5 grey levels);
    `share_top_color` (0-1: share of the pixels that have the most common colour, colours being counted with 4 bits a
    channel). Computed on the picture as the stage hands it out, shrunk to at most 512 pixels on its shorter side.
    Unit: as said. Model: none. Source: Shannon 1948; luminance as in ITU-R BT.601.
    """

    version: ClassVar[int] = 2

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "luminance_entropy_bits": pa.float32(),
                "luminance_mean": pa.float32(),
                "luminance_std": pa.float32(),
                "share_top_color": pa.float32(),
            }
        )

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        rows = [_statistics(image) if image is not None else (None,) * 4 for image in images]
        return {name: [row[k] for row in rows] for k, name in enumerate(self.writes().names)}


def _statistics(image: Image) -> tuple[float, float, float, float]:
    luminance = PillowImage.fromarray(image).convert("L")
    counts = np.array(luminance.histogram(), dtype=np.float64)
    shares = counts / counts.sum()
    levels = np.arange(256)
    mean = float(shares @ levels)
    std = float(np.sqrt(max(0.0, shares @ (levels - mean) ** 2)))
    seen = shares[shares > 0]
    entropy = max(0.0, float(-(seen * np.log2(seen)).sum()))
    coarse = (image >> 4).astype(np.uint16)
    colors = np.bincount(((coarse[..., 0] << 8) | (coarse[..., 1] << 4) | coarse[..., 2]).ravel(), minlength=4096)
    return entropy, mean, std, float(colors.max() / colors.sum())
