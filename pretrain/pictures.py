"""Square uint8 pictures for training: decoded once for each version and size, then read from a memory map.

Shape suffixes: N pictures of the version, S side, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from curation.media.decode import Decoder
from curation.step import digest
from curation.table import publishing
from pretrain.version import Version

Fit = Literal["letterbox", "crop", "squash"]
"""How a picture becomes a square: shrunk whole onto white; shorter side fitted and the middle cut out; distorted."""
Resample = Literal["bicubic", "bilinear"]
LAYOUT = 1
"""Changes whenever the pixels of a cache would change."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
WHITE = 255
_CHILD_FAILED = "img.decoder_"
"""Start of the reason codes that say that the decoder's process died, not that the bytes are bad."""
_DECODE_MARGIN = 2
"""The decoder shrinks to this many times the side first, so that the second filter has something to average."""


def square(pixels: np.ndarray, size: int, fit: Fit = "letterbox", resample: Resample = "bicubic") -> np.ndarray:
    """(size, size, 3) uint8 from (H, W, 3) uint8, anti-aliased."""
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return np.ascontiguousarray(pixels)
    if fit == "squash":
        return _resize(pixels, size, size, resample)
    longest_or_shortest = max(height, width) if fit == "letterbox" else min(height, width)
    new_height = max(1, round(height * size / longest_or_shortest))
    new_width = max(1, round(width * size / longest_or_shortest))
    resized = _resize(pixels, new_height, new_width, resample)
    if fit == "crop":
        top, left = (new_height - size) // 2, (new_width - size) // 2
        return np.ascontiguousarray(resized[top : top + size, left : left + size])
    canvas = np.full((size, size, 3), WHITE, dtype=np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    canvas[top : top + new_height, left : left + new_width] = resized
    return canvas


def _resize(pixels: np.ndarray, height: int, width: int, resample: Resample) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), _FILTERS[resample])
    return np.asarray(image, dtype=np.uint8)


def cache_path(folder: Path, version: Version, size: int, fit: Fit, resample: Resample) -> Path:
    """Where the cache of a version's pictures lies."""
    key = digest(version.digest, size, fit, resample, LAYOUT)
    return folder / f"{version.name}-{size}px-{key[:12]}.u8"


def cached_pictures(
    folder: Path,
    version: Version,
    size: int,
    fit: Fit,
    resample: Resample = "bicubic",
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[np.memmap[Any, Any], np.ndarray]:
    """(pixels_NSSC uint8, read-only memory map; is_whole_N bool), rows in the order of the version.

    Where is_whole is False the picture could not be decoded and its pixels are white. Made on first use; two processes
    that make it at once publish the same bytes and the first wins. Raises ValueError where no picture decodes.
    """
    path = cache_path(folder, version, size, fit, resample)
    num = version.num_samples
    if not path.exists():
        progress(f"decoding {num:,} pictures of {version.folder.name} to {size} px")
        with publishing(path) as temporary:
            whole = np.zeros(num, dtype=np.uint8)
            with temporary.open("wb") as file, Decoder() as decoder:
                for row, pixels in enumerate(_decoded(decoder, version.images(), size, fit, resample)):
                    whole[row] = pixels is not None
                    file.write((_white(size) if pixels is None else pixels).tobytes())
                file.write(whole.tobytes())
            if not whole.any():  # never published: it says more of this machine than of the pictures
                raise ValueError(f"none of the {num} pictures of {version.folder.name} could be decoded")
    expected = num * (size * size * 3 + 1)
    if path.stat().st_size != expected:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, not {expected}: delete it, it is only a cache")
    pixels_NSSC = np.memmap(path, dtype=np.uint8, mode="r", shape=(num, size, size, 3))
    whole = np.fromfile(path, dtype=np.uint8, offset=num * size * size * 3)
    return pixels_NSSC, whole.astype(bool)


def _decoded(
    decoder: Decoder, images: Iterable[bytes], size: int, fit: Fit, resample: Resample
) -> Iterable[np.ndarray | None]:
    for data in images:
        decoded = decoder.decode(data, short_side_px=size * _DECODE_MARGIN)
        if (decoded.reason or "").startswith(_CHILD_FAILED):
            with Decoder() as another:  # it may have been the machine, and the cache would keep the verdict
                decoded = another.decode(data, short_side_px=size * _DECODE_MARGIN)
        yield None if decoded.pixels is None else square(decoded.pixels, size, fit, resample)


def _white(size: int) -> np.ndarray:
    return np.full((size, size, 3), WHITE, dtype=np.uint8)
