"""Sound and moving pictures of a packed segment: windows and times drawn by keys, decoded in the guarded child.

Only bytes of a sealed version come here, and still they are decoded in the process that may crash: FFmpeg is large.
Shape suffixes: B samples, N samples of sound, T frames, S side, C channels.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, FrameTap, Wanted
from pretrain.embeddings.base import Sound
from pretrain.keyed import U64, key, uniform
from pretrain.pictures import Fit, Resample
from pretrain.streamed import WHOLE, squared, window

Longer = Literal["random", "middle", "leave_out"]
"""What becomes of a sound longer than a stream takes: a window anywhere or in its middle; or the row has no sound,
which is right for a transcript, that belongs to the whole."""
KEPT_BYTES = 256 << 20
"""Of decoded sounds that are taken whole, which each process keeps: 70 minutes at 16 kHz. A word of a second takes 8 ms
to decode, many times what a small model needs for it. Once they are so many, the others are decoded when seen."""
_MARGIN = 2
"""Frames come from the child with so many times the wanted side: the second filter then has something to average."""


@dataclass(frozen=True)
class Frames:
    """pixels_TSSC: uint8; times_s: float32 (T,), when each was taken."""

    pixels_TSSC: np.ndarray
    times_s: np.ndarray


def own_keys(samples: U64, epochs: np.ndarray) -> U64:
    """A key for each sample in its epoch."""
    with np.errstate(over="ignore"):
        return np.asarray(samples + epochs.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def sound_draws(samples: U64, epochs: np.ndarray, seed: int) -> np.ndarray:
    """(B,) in [0, 1): where in a sound its window begins; depends on its own sample and epoch only."""
    return uniform(own_keys(samples, epochs), key("sound", seed))


def frame_draws(samples: U64, epochs: np.ndarray, seed: int, num_frames: int) -> np.ndarray:
    """(B, T) in [0, 1): where in its piece of a film each frame is taken."""
    own = own_keys(samples, epochs)
    return np.stack([uniform(own, key("frame", seed, place)) for place in range(num_frames)], axis=1)


def sound_window(duration_s: float, max_s: float, longer: Longer, draw: float) -> tuple[float, float] | None:
    """(start, end) in seconds of what is heard of a sound; None where it is left out."""
    if duration_s <= max_s:
        return 0.0, duration_s
    if longer == "leave_out":
        return None
    start = (duration_s - max_s) * (draw if longer == "random" else 0.5)
    return start, start + max_s


def frame_times(duration_s: float, draws_T: np.ndarray | None, num_frames: int) -> np.ndarray:
    """(T,) ascending seconds in [0, duration): one in each of T equal pieces, its middle without draws (TSN's sampling,
    arXiv:1608.00859, section 3.1)."""
    inside = np.full(num_frames, 0.5) if draws_T is None else np.asarray(draws_T, dtype=np.float64)
    return (np.arange(num_frames) + inside) * (duration_s / num_frames)


class SegmentReader:
    """Decodes sounds and films. Owns a guarded child for each thread that asks; started when first needed.

    kept_bytes: of sounds that are taken from their beginning, which are kept once they are decoded (KEPT_BYTES).
    """

    def __init__(self, size: int, fit: Fit, resample: Resample, kept_bytes: int = KEPT_BYTES) -> None:
        self._size, self._fit, self._resample, self._kept_bytes = size, fit, resample, kept_bytes
        self._start()

    def _start(self) -> None:
        self._own = threading.local()
        self._kept: dict[bytes, np.ndarray] = {}
        self._room = self._kept_bytes

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_own", "_kept", "_room")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()

    @property
    def crops(self) -> bool:
        """Whether random windows are cut here, the same one from all frames of a film."""
        return self._fit != "letterbox"

    def sound(self, data: bytes, wanted: Sound, window_s: tuple[float, float]) -> np.ndarray | None:
        """(N,) float32 in -1..1, the window of a sound; None where it does not decode, or to what is no number. To be
        read only: of a whole sound it may be the one that is kept."""
        start_s, end_s = window_s
        name = hashlib.blake2b(data, salt=str(wanted.rate_hz).encode(), person=f"{end_s:.6f}".encode()).digest()
        if start_s == 0 and name in self._kept:
            return self._kept[name]
        most = round((end_s - start_s) * wanted.rate_hz)
        # by the header a sound may end a little before or behind what was measured: what is asked for is the window
        asked = Wanted(audio=(AudioTap(wanted.rate_hz),), start_s=start_s, end_s=None if start_s == 0 else end_s)
        _, got = self._decoder().gather(data, asked)
        samples = got.samples()
        if samples is None or not len(samples.pcm):
            return None
        heard = np.ascontiguousarray(samples.pcm[:most, 0], dtype=np.float32)
        if not np.isfinite(heard).all():
            return None
        if start_s == 0 and heard.nbytes <= self._room:  # a race of two threads costs some bytes of room, no more
            self._room -= heard.nbytes
            self._kept[name] = heard
        return heard

    def frames(self, data: bytes, times_T: np.ndarray, window_draws: np.ndarray | None = None) -> Frames | None:
        """The frames that are shown at these times, the last one beyond the end; None where none decodes.

        window_draws: of a random window (`streamed.windows`), None for the whole.
        """
        side = self._size * _MARGIN
        times = tuple(float(each) for each in times_T)
        tap = FrameTap("times", times, short_side_px=side)
        if self._fit == "squash":
            tap = FrameTap("times", times, width_px=side, height_px=side)
        _, got = self._decoder().gather(data, Wanted(frames=(tap,)))
        shown = got.frames()
        if shown is None or not len(shown.pixels):
            return None
        height, width = shown.pixels.shape[1:3]
        chosen = WHOLE if window_draws is None or not self.crops else window(height, width, window_draws)
        squares = [squared(each, self._size, self._fit, self._resample, chosen) for each in shown.pixels]
        places_T = np.clip(np.searchsorted(shown.times_s, times_T, side="right") - 1, 0, None)
        return Frames(np.stack(squares)[places_T], shown.times_s[places_T].astype(np.float32))

    def duration_s(self, data: bytes) -> float | None:
        """By the header, for versions that do not tell."""
        return self._decoder().probe(data).duration_s

    def _decoder(self) -> AvDecoder:
        found: AvDecoder | None = getattr(self._own, "decoder", None)
        if found is None:
            found = self._own.decoder = AvDecoder()
        return found
