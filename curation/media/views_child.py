"""The part of the decoder's process that hands out pixels at several sizes at once: every size a pure function of the
bytes, whatever else is asked for in the same request.

Loaded as a file by `decode_child.py`; numpy, OpenCV, which is given pixels only, and simplejpeg, which is given JPEGs
whose header has been checked.
"""

from collections.abc import Callable
from typing import Any

MARGIN = 1.5  # a JPEG is decoded at the smallest of 1/1 .. 1/8 that keeps this many times the side wanted
ROUGH_MARGIN = 1.25  # the same where the caller has an antialiased filter of its own
TWO_STEPS = 2.0, 1.5  # of bilinear resizing: see `output_child`; signals were measured with these
PLAIN_MARGIN = 2.0  # of pictures that have no such scales: areas are averaged down to no less than this


class Source:
    """One picture that has been opened and checked, decoded at each scale at most once."""

    def __init__(
        self, data: bytes, size: tuple[int, int], is_plain_jpeg: bool, opened: Callable[[], Any], making: Any
    ) -> None:
        """size: width and height. is_plain_jpeg: grey or of three colours. opened: Pillow's image, asked for where it
        is no such JPEG or has a flaw that Pillow should put a name to."""
        self._data, self._size, self._opened, self._making = data, size, opened, making
        self._by_scale: dict[int, Any] = {}
        self._whole: Any = None
        self.room: memoryview | None = None  # a JPEG may be decoded to there
        self._in_room: Any = None
        # a file that is not whole is left to Pillow, which names its flaw
        self._scales = is_plain_jpeg and data.rfind(b"\xff\xd9", -64) >= 0

    def view(self, short_side_px: int, exact: bool) -> Any:
        """Pixels (H, W, 3), red first, not turned upright. exact: the shorter side is at most `short_side_px`; else at
        least (for a larger picture) ROUGH_MARGIN times and less than about 4 times that; the caller filters."""
        width, height = self._size
        factor = min(width, height) / short_side_px
        if factor <= 1:
            return self._scaled(1)
        if not exact:
            return self._roughly(factor)
        target = max(1, round(width / factor)), max(1, round(height / factor))
        scale = next((n for n in (8, 4, 2) if factor >= MARGIN * n), 1) if self._scales else 1
        return self._making.resize(self._scaled(scale), target, self._scales, TWO_STEPS)

    def is_in_room(self, pixels: Any) -> bool:
        return pixels is self._in_room

    def _roughly(self, factor: float) -> Any:
        import cv2

        width, height = self._size
        scale = next((n for n in (8, 4, 2) if factor >= ROUGH_MARGIN * n), 1) if self._scales else 1
        pixels = self._scaled(scale)
        times = int(factor / scale / PLAIN_MARGIN)
        if times < 2:
            return pixels
        target = max(1, round(width / scale / times)), max(1, round(height / scale / times))
        return cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)

    def _scaled(self, scale: int) -> Any:
        if self._scales and scale not in self._by_scale:
            pixels = self._jpeg(scale)
            self._scales = pixels is not None
            self._by_scale[scale] = pixels
        if self._scales:
            return self._by_scale[scale]
        if self._whole is None:
            import numpy as np

            image = self._opened()
            image.load()
            self._whole = np.asarray(self._making.flatten(image))
        return self._whole

    def _jpeg(self, scale: int) -> Any | None:
        """At 1/scale; None if it has a flaw that Pillow should put a name to."""
        import simplejpeg

        width, height = -(-self._size[0] // scale), -(-self._size[1] // scale)
        try:
            room, self.room = self.room, None
            if room is not None and height * width * 3 > len(room):
                room = None
            pixels = simplejpeg.decode_jpeg(self._data, "RGB", min_height=height, min_width=width, buffer=room)
        except ValueError:
            return None
        if pixels.shape != (height, width, 3):
            return None
        if room is not None:
            self._in_room = pixels
        return pixels


def answer(
    source: Source,
    asked: list[list[Any]],
    orientation: int,
    making: Any,
    out: dict[str, Any],
    room: memoryview | None = None,
) -> list[Any]:
    """The views asked for ([short side, exact] each), upright; their sizes go into `out`. A view that is asked for
    twice is sent once. room: where the only view may be decoded to at once; then its size in bytes is returned."""
    keys = list(dict.fromkeys((int(short_side_px), bool(exact)) for short_side_px, exact in asked))
    if len(keys) == 1 and orientation == 1:
        source.room = room
    made = [making.turn(source.view(*key), orientation) for key in keys]
    out["view_sizes"] = [list(pixels.shape[:2]) for pixels in made]
    return [made[0].nbytes] if source.is_in_room(made[0]) else made
