"""Figures of every frame, taken while it is decoded, from which the signals of a segment's pictures are made.

A source is decoded once, to find its shots. What that pass sees of the frames of a segment is kept with it, 44 bytes a
frame, so that scoring it decodes no pictures. What is made of these figures (shares, offsets, fingerprints) may change
without touching a medium.

Frames are 96 x 54, RGB; grey levels are those of video's luma: 16 is black, 235 white.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.av.fingerprints import MIN_CONTRAST, frame_hashes
from curation.av.picture_motion import BORDER_LEVEL, GREY_SIZE_PX, LIT_SHARE

FRAME = np.dtype(
    [
        ("time_s", "<f8"),  # from the start of the segment, of the frame as it is shown
        ("step", "<f4"),  # mean absolute difference to the frame before, in levels; the first has 0
        ("level", "<f4"),  # mean level
        ("hash", "<u8"),  # `curation.av.fingerprints`
        ("is_known", "?"),  # whether it has enough contrast to be known by its hash
        ("lit_rows", "u1", (-(-GREY_SIZE_PX[1] // 8),)),  # bits: rows of which enough is brighter than a border
        ("lit_columns", "u1", (-(-GREY_SIZE_PX[0] // 8),)),
    ]
)
MOTION = np.dtype([("time_s", "<f8"), ("grid", "<f4", (16,))])
"""The codec's motion vectors, as of `curation.media.av_types.Motion`: of one frame in each fifth of a second."""
_LUMA = 219 / 255
"""Levels of luma for one of full-range grey (ITU-R BT.601)."""
_LUMA_BLACK = 16
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PictureTrack:
    """frames: `FRAME` [n], times ascending. motion: `MOTION` [m], empty where vectors were not asked for."""

    frames: npt.NDArray[np.void]
    motion: npt.NDArray[np.void]

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.frames["time_s"])

    @property
    def steps(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.frames["step"], np.float64)

    @property
    def lit(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """bool [n, 54] and [n, 96]: rows and columns that are no border."""
        width, height = GREY_SIZE_PX
        rows = np.unpackbits(self.frames["lit_rows"], axis=1, count=height)
        return rows.astype(bool), np.unpackbits(self.frames["lit_columns"], axis=1, count=width).astype(bool)

    def between(self, start_s: float, end_s: float, first_s: float = 0.0) -> PictureTrack:
        """What lies in a range of the source, as a segment whose first frame is shown at `first_s`. Half a millisecond
        off counts as the same time: containers round."""
        frames = self.frames[_range(self.times_s, start_s, end_s)].copy()
        motion = self.motion[_range(np.asarray(self.motion["time_s"]), start_s, end_s)].copy()
        if len(frames):
            motion["time_s"] += first_s - frames["time_s"][0]
            frames["time_s"] += first_s - frames["time_s"][0]
            frames["step"][0] = 0
        return PictureTrack(frames, motion)

    def as_bytes(self) -> tuple[bytes, bytes]:
        """(frames, motion), as tables keep them."""
        return self.frames.tobytes(), self.motion.tobytes()

    @classmethod
    def of_bytes(cls, frames: bytes, motion: bytes) -> PictureTrack:
        return cls(np.frombuffer(frames, FRAME), np.frombuffer(motion, MOTION))


def _range(times_s: npt.NDArray[np.float64], start_s: float, end_s: float) -> slice:
    first, last = np.searchsorted(times_s, [start_s - 5e-4, end_s - 5e-4])
    return slice(int(first), int(last))


class TrackMaker:
    """Makes a track of frames and motion that come piece by piece, in the order of decoding."""

    def __init__(self) -> None:
        self._last: Pixels | None = None
        self._frames: list[npt.NDArray[np.void]] = []
        self._motion: list[npt.NDArray[np.void]] = []

    def add(self, pixels: Pixels, times_s: npt.NDArray[np.float64]) -> None:
        """pixels: RGB, uint8 [n, 54, 96, 3]."""
        import cv2  # at the first call: recipes are read without it

        num, height, width, _ = pixels.shape
        flat = cv2.cvtColor(pixels.reshape(num * height, width, 3), cv2.COLOR_RGB2GRAY)
        grey = np.asarray(flat, np.uint8).reshape(num, height, width)
        before = grey[:1] if self._last is None else self._last
        self._last = grey[-1:].copy()
        steps = cv2.absdiff(np.concatenate([before, grey[:-1]]).reshape(num, -1), grey.reshape(num, -1))
        made = np.zeros(num, FRAME)
        made["time_s"] = times_s
        made["step"] = _LUMA * _means(np.asarray(steps, np.uint8))
        made["level"] = _LUMA_BLACK + _LUMA * _means(grey.reshape(num, -1))
        made["hash"], made["is_known"] = frame_hashes(grey, MIN_CONTRAST / _LUMA)
        is_lit = grey > (BORDER_LEVEL - _LUMA_BLACK) / _LUMA
        made["lit_rows"] = np.packbits(is_lit.sum(axis=2, dtype=np.uint8) > LIT_SHARE * width, axis=1)
        made["lit_columns"] = np.packbits(is_lit.sum(axis=1, dtype=np.uint8) > LIT_SHARE * height, axis=1)
        self._frames.append(made)

    def add_motion(self, times_s: npt.NDArray[np.float64], grid: npt.NDArray[np.float32]) -> None:
        """grid: float32 [m, 16]."""
        made = np.zeros(len(times_s), MOTION)
        made["time_s"], made["grid"] = times_s, grid
        self._motion.append(made)

    def track(self) -> PictureTrack:
        """What was made so far."""
        return PictureTrack(
            np.concatenate([*self._frames, np.zeros(0, FRAME)]), np.concatenate([*self._motion, np.zeros(0, MOTION)])
        )


def _means(values: Pixels) -> npt.NDArray[np.float64]:
    """Of each row: float64 [n] of uint8 [n, m]."""
    return np.asarray(values.sum(axis=1, dtype=np.uint32) / values.shape[1])
