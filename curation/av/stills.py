"""Pictures that stand for segments, kept while their source is decoded: one for each second of it, as JPEG."""

from __future__ import annotations

import tempfile

import numpy as np
import numpy.typing as npt

from curation.media.av_types import Frames, FrameTap

SHORT_SIDE_PX = 512
"""As much as signals of pictures look at (`ImageSignal.short_side_px`)."""
JPEG_QUALITY = 92
STILLS_HZ = 1.0
STILLS_TAP = FrameTap("rate", STILLS_HZ, short_side_px=SHORT_SIDE_PX)
_IN_MEMORY_BYTES = 32 << 20  # a few minutes; then a file


class Stills:
    """Takes the frames of `STILLS_TAP`, damaged ones left out; gives the one nearest to the middle of a range."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - as long as this object
        self._times_s: list[float] = []
        self._places: list[tuple[int, int]] = []

    def add(self, frames: Frames) -> None:
        for pixels, time_s, is_damaged in zip(frames.pixels, frames.times_s, frames.is_damaged, strict=True):
            jpeg = None if is_damaged else as_jpeg(pixels)
            if jpeg is not None:
                self._places.append((self._file.tell(), len(jpeg)))
                self._times_s.append(float(time_s))
                self._file.write(jpeg)

    def of(self, start_s: float, end_s: float) -> bytes | None:
        """The still that is shown nearest to the middle of a range, as JPEG; None where none is shown within it."""
        inside = [k for k, time_s in enumerate(self._times_s) if start_s - 1e-3 <= time_s < end_s - 1e-3]
        if not inside:
            return None
        place, size = self._places[min(inside, key=lambda k: abs(self._times_s[k] - (start_s + end_s) / 2))]
        self._file.seek(place)
        found = self._file.read(size)
        self._file.seek(0, 2)
        return found


def as_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes | None:
    """pixels: RGB, uint8 [H, W, 3]; None where they cannot be encoded."""
    import cv2  # at the first call: recipes are read without it

    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    is_made, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    return jpeg.tobytes() if is_made else None
