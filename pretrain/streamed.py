"""From the bytes of a sealed sample to a square of uint8, in a worker's own process.

A JPEG is decoded at the smallest of 1/1, 1/2, 1/4, 1/8 that leaves the filter something to average, cut, and resized
with an anti-aliased filter straight to the square; everything else, and every JPEG that libjpeg complains of, goes
through the same guarded child as in curation. Only bytes of a sealed version come here: curation has decoded each of
them before, whole, in that child. Shape suffixes: H W picture, S side, C channels.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
import simplejpeg

from curation.augmentations import augmented
from curation.media.decode import Decoder
from pretrain.keyed import U64, key, uniform
from pretrain.pictures import Fit, Resample, square
from pretrain.resampling import scaled_part

MARGIN = 1.5
"""A JPEG keeps at least this many times the wanted side before the filter: PSNR to a full decode 37 dB at the 5th
percentile, 47 dB in the median (collages of 0.6 Mpx; measured for the downloader)."""
AREA = (0.9, 1.0)
ASPECT = (3 / 4, 4 / 3)
"""Of the window that is seen, as open_clip's training transform draws it (RandomResizedCrop with scale 0.9 to 1)."""
_GUARDED_MARGIN = 2
_BUFFER_BYTES = 1 << 20
_EXIF = b"Exif\0\0"
_EXIF_WITHIN = 256


@dataclass(frozen=True)
class Window:
    """A part of a picture in shares of its sides."""

    top: float = 0.0
    left: float = 0.0
    height: float = 1.0
    width: float = 1.0


WHOLE = Window()


def windows(samples: U64, epochs: np.ndarray, seed: int) -> np.ndarray:
    """(B, 4) draws in [0, 1) for `window`, each depending on its own sample's hash and epoch only."""
    with np.errstate(over="ignore"):
        own = samples + epochs.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.stack([uniform(own, key("window", seed, name)) for name in ("area", "aspect", "y", "x")], axis=1)


def window(height: int, width: int, draws: np.ndarray) -> Window:
    """A window of a keyed area, aspect ratio and place; as large as fits where the ratio asks for more."""
    area, aspect, y, x = (float(each) for each in draws)
    wanted = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    ratio = math.exp(low + (high - low) * aspect)
    rows = min(height, max(1, round(math.sqrt(wanted / ratio))))
    columns = min(width, max(1, round(math.sqrt(wanted * ratio))))
    top, left = round(y * (height - rows)), round(x * (width - columns))
    return Window(top / height, left / width, rows / height, columns / width)


def squared(pixels: np.ndarray, size: int, fit: Fit, resample: Resample, chosen: Window = WHOLE) -> np.ndarray:
    """(S, S, 3) uint8 from the window of (H, W, 3) uint8; a letterbox always shows the whole."""
    if fit == "letterbox":
        return square(pixels, size, fit, resample)
    height, width = pixels.shape[:2]
    top, left = round(chosen.top * height), round(chosen.left * width)
    rows, columns = max(1, round(chosen.height * height)), max(1, round(chosen.width * width))
    cut = pixels[top : top + rows, left : left + columns]
    if chosen is WHOLE and fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        cut = pixels[top : top + side, left : left + side]
    return scaled_part(cut, size, size, 0, 0, size, resample)


class PictureReader:
    """Squares from encoded pictures. Owns a guarded child for what is no plain JPEG; started when first needed."""

    def __init__(self, size: int, fit: Fit, resample: Resample) -> None:
        self._size, self._fit, self._resample = size, fit, resample
        self._start()

    def _start(self) -> None:
        self._guarded, self._own = Decoder(), threading.local()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_guarded", "_own")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()

    @property
    def crops(self) -> bool:
        """Whether random windows are cut here; with a letterbox, augmentation moves the whole square instead."""
        return self._fit != "letterbox"

    def read(self, data: bytes, draws: np.ndarray | None = None) -> np.ndarray | None:
        """(S, S, 3) uint8, or None where the bytes do not decode. draws: of a random window, None for the whole.

        To be used before this thread reads the next one, which may take its place.
        """
        size = _plain_jpeg(data)
        if size is not None:
            height, width = size
            chosen = WHOLE if draws is None or not self.crops else window(height, width, draws)
            scale, shrinks = self._scale(height * chosen.height, width * chosen.width)
            pixels = self._decode_jpeg(data, -(-height // scale), -(-width // scale), shrinks)
            if pixels is not None:
                return squared(pixels, self._size, self._fit, self._resample, chosen)
        pixels = self._guarded.decode(data, short_side_px=self._size * _GUARDED_MARGIN).pixels
        if pixels is None:
            return None
        chosen = WHOLE if draws is None or not self.crops else window(pixels.shape[0], pixels.shape[1], draws)
        return squared(pixels, self._size, self._fit, self._resample, chosen)

    def view(self, data: bytes, parameters_P: np.ndarray) -> np.ndarray | None:
        """(S, S, 3) uint8: a view with stored parameters, as a teacher saw it to within the filter; None as `read`."""
        size, pixels = _plain_jpeg(data), None
        if size is not None:
            left, top, right, bottom = (float(value) for value in parameters_P[:4])
            height, width = size
            scale, shrinks = self._scale(height * (bottom - top), width * (right - left), "squash")
            pixels = self._decode_jpeg(data, -(-height // scale), -(-width // scale), shrinks)
        if pixels is None:
            pixels = self._guarded.decode(data, short_side_px=self._size * _GUARDED_MARGIN).pixels
        return None if pixels is None else augmented(pixels, parameters_P, self._size)

    def _scale(self, height: float, width: float, fit: Fit | None = None) -> tuple[int, bool]:
        """Of a JPEG: how many times smaller it may be decoded, and whether it is then still larger than wanted."""
        side = min(height, width) if (fit or self._fit) in ("crop", "squash") else max(height, width)
        scale = next((n for n in (8, 4, 2) if side / self._size >= MARGIN * n), 1)
        return scale, side >= self._size * scale

    def _decode_jpeg(self, data: bytes, height: int, width: int, shrinks: bool) -> np.ndarray | None:
        """Pixels of a plain JPEG at a scale, in a buffer of this thread's that the next picture overwrites.

        One that shrinks takes the faster DCT and chroma without a filter, a tenth less time: PSNR to the exact ones
        after the filter 41 dB in the median and 38 at the 5th percentile (300 collages stored at 256 px, seen at 224).
        """
        needed = height * width * 3
        buffer = getattr(self._own, "buffer", None)
        if buffer is None or len(buffer) < needed:
            buffer = self._own.buffer = np.empty(max(needed, _BUFFER_BYTES), dtype=np.uint8)
        try:
            pixels: np.ndarray = simplejpeg.decode_jpeg(
                data, "RGB", shrinks, shrinks, min_height=height, min_width=width, buffer=buffer
            )
        except ValueError:
            return None
        return pixels

    def close(self) -> None:
        """End the child, if there is one."""
        self._guarded.close()


def _plain_jpeg(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG without EXIF, which could ask for a turn; None for anything else."""
    if data[:3] != b"\xff\xd8\xff" or data.find(_EXIF, 0, _EXIF_WITHIN) >= 0:
        return None
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:
        return None
    return height, width
