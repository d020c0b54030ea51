"""The part of the decoder's process that makes faces unrecognisable in a picture that is then encoded anew.

Loaded as a file by `decode_child.py`; numpy, and OpenCV, which is given pixels only.
"""

import math
from typing import Any

GROWTH = 0.1  # of a box's diagonal, on each side: hair and chin, and what the detector cut off
STRENGTH = 0.1  # sigma over the diagonal of the picture's largest box
# Both from Yang et al. 2022, A Study of Face Obfuscation in ImageNet, arXiv 2103.06191, section 4; DataComp blurs so.
REACH = 3  # sigmas beyond the grown box: there the mask has faded out
STRIP_ROWS = 64  # at a time, so that a large picture needs little more memory
SIGMA_PX = 4.0  # a wider blur is done on a smaller copy, which costs less and looks the same


def answer(pixels: Any, orientation: int, asked: dict[str, Any], making: Any, out: dict[str, Any]) -> bytes:
    """The picture (red first, not turned upright yet) upright with the boxes blurred, encoded in its own format."""
    made = blur_boxes(making.turn(pixels, orientation), asked["boxes"])
    format = making.NAMES[out["format"]]
    out["out_format"], (out["out_height_px"], out["out_width_px"]) = making.FORMATS[format], made.shape[:2]
    encoded: bytes = making.encode(made[:, :, ::-1].copy(), format, asked["quality"], b"")
    return encoded


def blur_boxes(pixels: Any, boxes: list[list[float]]) -> Any:
    """A copy of (H, W, 3) uint8 with the boxes (left, top, right, bottom, as shares of width and height) blurred, their
    edges softly."""
    import numpy as np

    height, width = pixels.shape[:2]
    scaled = [(left * width, top * height, right * width, bottom * height) for left, top, right, bottom in boxes]
    diagonals = [math.hypot(right - left, bottom - top) for left, top, right, bottom in scaled]
    sigma = max(1.0, STRENGTH * max(diagonals, default=0.0))
    made = np.array(pixels)
    for (left, top, right, bottom), diagonal in zip(scaled, diagonals, strict=True):
        grown = GROWTH * diagonal
        inner = _inside((left - grown, top - grown, right + grown, bottom + grown), width, height)
        reach = REACH * sigma
        outer = _inside((inner[0] - reach, inner[1] - reach, inner[2] + reach, inner[3] + reach), width, height)
        if inner[0] < inner[2] and inner[1] < inner[3]:
            _blend(made, inner, outer, sigma)
    return made


def _inside(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels that cover the box, within the picture."""
    left, top, right, bottom = box
    return (
        min(width, max(0, math.floor(left))),
        min(height, max(0, math.floor(top))),
        max(0, min(width, math.ceil(right))),
        max(0, min(height, math.ceil(bottom))),
    )


def _blend(made: Any, inner: tuple[int, int, int, int], outer: tuple[int, int, int, int], sigma: float) -> None:
    """Blur what lies in `inner`, of which nothing stays, fading out towards `outer`; in place."""
    import numpy as np

    left, top, right, bottom = outer
    region = made[top:bottom, left:right]
    smooth = _smooth(region, sigma)
    across = _fade(left, right, inner[0], inner[2], REACH * sigma)
    down = _fade(top, bottom, inner[1], inner[3], REACH * sigma)
    for start in range(0, len(region), STRIP_ROWS):
        strip, instead = region[start : start + STRIP_ROWS], smooth[start : start + STRIP_ROWS]
        share = (down[start : start + STRIP_ROWS, None] * across)[..., None]
        strip[...] = np.rint(strip + (instead.astype(np.float32) - strip) * share)


def _fade(start: int, stop: int, inner_start: int, inner_stop: int, reach: float) -> Any:
    """1 from inner_start to inner_stop, falling to 0 over `reach` pixels on both sides."""
    import numpy as np

    places = np.arange(start, stop, dtype=np.float32)
    outside = np.maximum(0, np.maximum(inner_start - places, places - (inner_stop - 1)))
    return np.maximum(0, 1 - outside / reach)


def _smooth(pixels: Any, sigma: float) -> Any:
    """A Gaussian blur."""
    import cv2

    height, width = pixels.shape[:2]
    factor = max(1.0, sigma / SIGMA_PX)
    small = max(1, round(width / factor)), max(1, round(height / factor))
    if factor > 1:
        pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    pixels = cv2.GaussianBlur(pixels, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
    return pixels if factor <= 1 else cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
