"""What is drawn from a medium while it is decoded: sampled frames at their final size, samples at their final rate,
and the motion that the codec itself stored.

Loaded as a file by `av_read_child.py`.
"""

import sys
from typing import Any

import av
import numpy as np

child = sys.modules["av_child"]

BATCH_BYTES = 1 << 20
BATCH_FRAMES = 512
MAX_SIDE_PX = 4096
MAX_GAP_S = 60.0  # silence is put in for what is missing in an audio stream up to this; after more, it ends
MAX_BACK_S = 1.0  # stamps that go back by more are those of another file behind the first; frames are less out of order
SLACK_S = 0.04  # time stamps of audio jitter (Matroska's have milliseconds); below this they are not believed
GRID = 4  # cells of the motion grid on each side
MOTION_HZ = 5.0  # frames a second whose vectors are read: as dear as a quarter of the decoding if all are
AUDIO_CHUNK_S = 0.5  # of sound that goes through a resampler at a time: each call costs more than what it does

_reformatter = av.video.reformatter.VideoReformatter()  # keeps its scaler from frame to frame


def shape_of(frame: Any, stream: Any, limits: dict[str, Any], out: dict[str, Any]) -> None:
    """Note the size as the frame is shown, and the turn (degrees clockwise, of 0, 90, 180, 270) that makes it so."""
    child.check_size(frame.width, frame.height, limits)
    turn = clockwise(frame.rotation)
    width, height = shown(frame, stream.sample_aspect_ratio)
    if turn in (90, 270):
        width, height = height, width
    out |= {"width_px": width, "height_px": height, "rotation_deg": turn}


def shown(frame: Any, aspect: Any) -> tuple[int, int]:
    """Width and height before turning, with square pixels: the width of an anamorphic picture is stretched."""
    ratio = float(aspect) if aspect else 1.0
    ratio = ratio if 0.2 <= ratio <= 5 else 1.0  # beyond that it is a damaged header
    return max(1, round(frame.width * ratio)), frame.height


def clockwise(rotation: int | None) -> int:
    """The nearest quarter turn of FFmpeg's counter-clockwise degrees."""
    return (-round((rotation or 0) / 90) * 90) % 360


def pixels(frame: Any, width: int, height: int, kind: str, turn: int, out: dict[str, Any]) -> Any:
    """(height, width[, 3]) uint8 at that size, turned. width, height: after turning."""
    if turn in (90, 270):
        width, height = height, width
    with child.Spent(out, "scale_s"):
        scaled = _reformatter.reformat(frame, width, height, kind, interpolation="AREA", threads=1)
    array = scaled.to_ndarray()
    return np.ascontiguousarray(np.rot90(array, -turn // 90)) if turn else array


class FrameTap:
    """Frames by one rule: `every` k-th, `rate` (that shown at each i / rate seconds), `times`, or `keyframes`.

    A frame is sent once, however many of the wanted times fall into it.
    """

    def __init__(
        self, index: int, spec: dict[str, Any], window: tuple[float, float], answer: Any, out: dict[str, Any]
    ) -> None:
        self._index, self._spec, self._window, self._answer, self._out = index, spec, window, answer, out
        self._count = self._sent = self._next = 0
        self._held: tuple[Any, float, bool] | None = None
        self._size: tuple[int, int] | None = None
        self._turn = 0
        self._batch: list[Any] = []
        self._times: list[float] = []
        self._damaged: list[bool] = []

    def offer(self, frame: Any, time_s: float, is_damaged: bool) -> None:
        rule, value = self._spec["rule"], self._spec["value"]
        if rule in ("rate", "times"):
            if self._held is not None and self._has_wanted_before(time_s):
                self._take(*self._held)
            self._held = (frame, time_s, is_damaged)
        elif time_s >= self._window[0]:
            if frame.key_frame if rule == "keyframes" else self._count % value == 0:
                self._take(frame, time_s, is_damaged)
            self._count += 1

    @property
    def is_served(self) -> bool:
        """Whether no later frame can be wanted."""
        return self._spec["rule"] == "times" and self._next >= len(self._spec["value"])

    def _has_wanted_before(self, end_s: float) -> bool:
        """Whether a wanted time lies before `end_s`, beyond those that were served; these are then served."""
        if self._spec["rule"] == "times":
            times, start = self._spec["value"], self._next
            while self._next < len(times) and times[self._next] < end_s:
                self._next += 1
            return self._next > start
        rate, zero = self._spec["value"], self._window[0]
        if zero + self._next / rate >= end_s:
            return False
        self._next = int((end_s - zero) * rate)
        while zero + self._next / rate < end_s:
            self._next += 1
        return True

    def _take(self, frame: Any, time_s: float, is_damaged: bool) -> None:
        if self._spec["max_frames"] is not None and self._sent >= self._spec["max_frames"]:
            return
        if self._size is None:
            self._turn = clockwise(frame.rotation)
            self._size = self._fit(frame)
        self._sent += 1
        self._batch.append(pixels(frame, *self._size, self._spec["pixels"], self._turn, self._out))
        self._times.append(round(time_s, 6))
        self._damaged.append(is_damaged)
        if len(self._batch) * self._batch[0].nbytes >= BATCH_BYTES or len(self._batch) >= BATCH_FRAMES:
            self._flush()

    def _fit(self, frame: Any) -> tuple[int, int]:
        """Size after turning: as wanted, or with the shorter side as wanted, never enlarged."""
        if self._spec["width_px"]:
            return self._spec["width_px"], self._spec["height_px"]
        width, height = shown(frame, getattr(frame, "sample_aspect_ratio", None) or self._spec.get("aspect"))
        if self._turn in (90, 270):
            width, height = height, width
        scale = min(
            1.0, (self._spec["short_side_px"] or MAX_SIDE_PX) / min(width, height), MAX_SIDE_PX / max(width, height)
        )
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _flush(self) -> None:
        if not self._batch:
            return
        stack = np.stack(self._batch)
        content = {"tap": self._index, "times": self._times, "damaged": self._damaged, "shape": stack.shape}
        self._answer.send("f", content, stack)
        self._batch, self._times, self._damaged = [], [], []

    def finish(self, end_s: float) -> None:
        if self._held is not None and self._has_wanted_before(end_s):
            self._take(*self._held)
        self._held = None
        self._flush()


class MotionTap:
    """The mean displacement of the codec's motion vectors on a 4 x 4 grid, in frame heights: of the first frame with
    vectors in each fifth of a second.

    -1 in all cells where a fifth has none (key frames alone; a codec that does not export them).
    """

    is_served = False

    def __init__(self, answer: Any, window: tuple[float, float]) -> None:
        self._answer, self._window = answer, window
        self._times: list[float] = []
        self._grids: list[Any] = []
        self._tick = -1
        self._has_vectors = False

    def offer(self, frame: Any, time_s: float, _is_damaged: bool) -> None:
        if time_s < self._window[0]:
            return
        tick = int((time_s - self._window[0]) * MOTION_HZ + 1e-6)
        if tick == self._tick and self._has_vectors:
            return
        side_data = frame.side_data.get("MOTION_VECTORS")
        vectors = side_data.to_ndarray() if side_data is not None else None
        grid = grid_of(vectors, frame.width, frame.height)
        if tick == self._tick:  # this fifth has had a frame without vectors
            self._times.pop()
            self._grids.pop()
        elif len(self._times) >= BATCH_FRAMES:
            self._flush()
        self._times.append(round(time_s, 6))
        self._grids.append(grid)
        self._tick, self._has_vectors = tick, vectors is not None and len(vectors) > 0

    def finish(self, _end_s: float) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._times:
            self._answer.send("m", {"times": self._times}, np.stack(self._grids))
        self._times, self._grids = [], []


def grid_of(vectors: Any, width: int, height: int) -> Any:
    """(16,) float32: mean length of the vectors by cell, weighted by the blocks' area, in frame heights."""
    if vectors is None or len(vectors) == 0:
        return np.full(GRID * GRID, -1, np.float32)
    scale = np.maximum(vectors["motion_scale"], 1).astype(np.float32) * height
    length = np.hypot(vectors["motion_x"].astype(np.float32), vectors["motion_y"].astype(np.float32)) / scale
    area = vectors["w"].astype(np.float32) * vectors["h"]
    column = np.clip(vectors["dst_x"].astype(np.int64) * GRID // width, 0, GRID - 1)
    row = np.clip(vectors["dst_y"].astype(np.int64) * GRID // height, 0, GRID - 1)
    cell = row * GRID + column
    whole = np.bincount(cell, area, GRID * GRID)
    moved = np.bincount(cell, area * np.minimum(length, 4.0), GRID * GRID)  # a damaged vector may point anywhere
    return (moved / np.maximum(whole, width * height / GRID**2)).astype(np.float32)


class Floats:
    """Frames of sound as float32 (n, 1 or 2), interleaved: converted once, for all taps."""

    def __init__(self) -> None:
        self._resampler: Any = None
        self._source: tuple[str, str, int] | None = None

    def of(self, frame: Any) -> Any:
        name, channels = frame.format.name, len(frame.layout.channels)
        if channels <= 2 and name in ("flt", "fltp", "s16", "s16p"):
            array = frame.to_ndarray()
            samples = array.T if frame.format.is_planar else array.reshape(-1, channels)
            if array.dtype == np.int16:
                return samples.astype(np.float32) / 32768
            return np.ascontiguousarray(samples)
        source = (name, frame.layout.name, frame.sample_rate)
        if source != self._source:  # mixing down of more than two channels is FFmpeg's
            layout = "mono" if channels == 1 else "stereo"
            self._resampler, self._source = av.AudioResampler("flt", layout, frame.sample_rate), source
        frame.pts = None  # the resampler would put in silence of its own
        made = [each.to_ndarray().reshape(-1, min(2, channels)) for each in self._resampler.resample(frame)]
        return np.concatenate(made) if made else np.zeros((0, min(2, channels)), np.float32)


class AudioTap:
    """Samples at one rate and layout; sample n stands for the time start + n / rate, whatever the packets left out."""

    def __init__(self, index: int, spec: dict[str, Any], window: tuple[float, float], answer: Any) -> None:
        self._index, self._spec, self._window, self._answer = index, spec, window, answer
        self._resampler: Any = None
        self._source_rate = self._rate = self._channels = 0
        self._start_s: float | None = None
        self._given = 0.0  # samples that what was offered stands for, at the tap's rate, from start_s on
        self._made = self._skip = 0
        self._limit: int | None = None
        self._held: list[Any] = []
        self._num_held = 0
        self._batch: list[Any] = []
        self._batch_bytes = 0

    def offer(self, samples: Any, rate: int, time_s: float) -> None:
        """samples: float32 (n, 1 or 2), at `rate`, from time_s on."""
        if time_s + len(samples) / rate <= self._window[0]:
            return
        if self._start_s is None:
            self._rate = self._spec["rate_hz"] or rate
            self._channels = 1 if self._spec["num_channels"] == 1 else samples.shape[1]
            self._start_s = max(time_s, self._window[0])
            self._limit = round((self._window[1] - self._start_s) * self._rate) if self._window[1] < 1e9 else None
            self._shift(round((time_s - self._start_s) * self._rate))
        if rate != self._source_rate:  # at the beginning, or where the stream changes
            self._drain()
            self._source_rate = rate
        missing = round((time_s - self._start_s) * self._rate - self._given)
        if abs(missing) > SLACK_S * self._rate:
            self._shift(missing)
        if samples.shape[1] != self._channels:  # the mean; FFmpeg's own mixing makes floats louder and integers not
            samples = samples.mean(axis=1, keepdims=True) if self._channels == 1 else samples.repeat(2, axis=1)
        self._held.append(samples)
        self._num_held += len(samples)
        self._given += len(samples) * self._rate / rate
        if self._num_held >= AUDIO_CHUNK_S * rate:
            self._resample()

    def _shift(self, missing: int) -> None:
        """Make up for samples that are not there, or come twice."""
        if missing > 0:
            self._drain()
            self._keep(np.zeros((missing, self._channels), np.float32))
        self._skip += max(0, -missing)
        self._given += missing

    def _resample(self) -> None:
        """What is held, at the tap's rate."""
        if not self._held:
            return
        held = np.concatenate(self._held)
        self._held, self._num_held = [], 0
        if self._source_rate == self._rate:
            self._keep(held)
            return
        layout = "mono" if self._channels == 1 else "stereo"
        if self._resampler is None:
            self._resampler = av.AudioResampler("flt", layout, self._rate)
        frame = av.AudioFrame.from_ndarray(held.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = self._source_rate
        for made in self._resampler.resample(frame):
            self._keep(made.to_ndarray().reshape(-1, self._channels))

    def _drain(self) -> None:
        self._resample()
        if self._resampler is not None:
            for made in self._resampler.resample(None):
                self._keep(made.to_ndarray().reshape(-1, self._channels))
        self._resampler = None

    def _keep(self, samples: Any) -> None:
        """samples: float32 (n, channels)."""
        if self._spec["samples"] == "s16":
            samples = np.rint(samples * 32767).clip(-32768, 32767).astype(np.int16)
        if self._skip:
            dropped = min(self._skip, len(samples))
            samples, self._skip = samples[dropped:], self._skip - dropped
        if self._limit is not None:
            samples = samples[: max(0, self._limit - self._made)]
        self._made += len(samples)
        if len(samples) == 0:
            return
        self._batch.append(samples)
        self._batch_bytes += samples.nbytes
        if self._batch_bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            stack = np.ascontiguousarray(np.concatenate(self._batch))
            content = {"tap": self._index, "start_s": self._start_s, "rate_hz": self._rate, "shape": stack.shape}
            self._answer.send("a", content, stack)
        self._batch, self._batch_bytes = [], 0

    def finish(self) -> None:
        self._drain()
        self._flush()
