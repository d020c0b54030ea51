"""Writing a segment: a container in memory, frames as H.264, samples as AAC, Opus or FLAC.

Loaded as a file by `av_cut_child.py`.
"""

import io
import sys
from fractions import Fraction
from typing import Any

import av

child = sys.modules["av_child"]
taps = child._neighbour("av_taps_child")

_LIMITED = av.video.reformatter.ColorRange.MPEG  # what players expect of H.264; MJPEG has the full range
_TIME = Fraction(1, 1_000_000)
# Without it x264 (165) gives other bytes for the same frames in the same process, depending on what lay in memory: its
# macroblock tree in vector code.
_SAME_BYTES = "cpu-independent=1"


class Sink:
    """A container in memory that is cut off once it is too large. Holds packets until all its streams have begun,
    for a container's header names them all."""

    def __init__(self, container: str, max_bytes: int, num_streams: int) -> None:
        self.buffer = io.BytesIO()
        self._max_bytes, self._missing = max_bytes, num_streams
        self._held: list[Any] = []
        options = {"fflags": "+bitexact"}  # no random ids, no name of the writer
        self.out = av.open(self.buffer, "w", format=container, container_options=options)

    def begun(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self.release()

    def release(self) -> None:
        """Write what is held; further streams do not come."""
        held, self._held, self._missing = self._held, [], 0
        self.out.mux(held)

    def mux(self, packets: Any) -> None:
        if self._missing > 0:
            self._held += packets
            return
        self.out.mux(packets)
        if self.buffer.tell() > self._max_bytes:
            raise child.Refused("av.bomb", f"a cut of more than {self._max_bytes} bytes")


class VideoWriter:
    """Encodes frames as H.264 with the times that they had; one thread, so that equal input gives equal bytes."""

    def __init__(
        self, sink: Sink, medium: Any, span: tuple[float, float], slack_s: float, request: dict[str, Any]
    ) -> None:
        self._sink, self._medium, self._span, self._request = sink, medium, span, request
        self._slack_s = slack_s
        self._stream: Any = None
        self._last = -1
        self._turn = 0

    def write(self, frame: Any, at: float) -> float:
        """Returns the frame's length in seconds; 0 where it lies before the start."""
        if at < self._span[0] - self._slack_s:
            return 0.0
        rate = self._medium.video.average_rate
        length_s = float(frame.duration * frame.time_base) if frame.duration else 1 / float(rate or 30)
        if self._stream is None:
            self._begin(frame)
        width, height = self._stream.width, self._stream.height
        array = taps.pixels(frame, width, height, "rgb24", self._turn, {}) if self._turn else None
        if array is not None:
            made = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(width, height, "yuv420p")
        else:
            made = frame.reformat(width, height, "yuv420p", dst_color_range=_LIMITED)
        pts = max(round((at - self._span[0]) / _TIME), self._last + 1)
        self._last = pts
        made.pts, made.time_base = pts, _TIME
        made.pict_type = 0
        self._sink.mux(self._stream.encode(made))
        return length_s

    def _begin(self, frame: Any) -> None:
        rate = self._medium.video.average_rate or Fraction(30)
        self._turn = taps.clockwise(frame.rotation)
        width, height = taps.shown(frame, self._medium.video.sample_aspect_ratio)
        if self._turn in (90, 270):
            width, height = height, width
        self._stream = self._sink.out.add_stream("libx264", rate=Fraction(rate).limit_denominator(60_000))
        self._stream.width, self._stream.height = width - width % 2 or 2, height - height % 2 or 2
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = _TIME
        context.thread_count = 1
        self._stream.options = {
            "crf": str(self._request["crf"]),
            "preset": self._request["preset"],
            "threads": "1",
            "x264-params": _SAME_BYTES,
        }
        self._sink.begun()  # after the options: where the sound began before, this opens the encoders

    def finish(self) -> None:
        if self._stream is not None:
            self._sink.mux(self._stream.encode(None))


_LOUDEST = 4.0  # times full scale, 12 dB: lossy codecs overshoot it by a few


class AudioWriter:
    """Encodes samples as AAC, Opus or FLAC; the first and the last frame are cut at the sample."""

    def __init__(self, sink: Sink, medium: Any, span: tuple[float, float], request: dict[str, Any]) -> None:
        self._sink, self._span, self._codec = sink, span, request["audio_codec"]
        self._rate = 48_000 if self._codec == "libopus" else min(medium.audio.codec_context.sample_rate, 48_000)
        self._layout = "mono" if medium.audio.codec_context.channels == 1 else "stereo"
        self._stream: Any = None
        self._resampler: Any = None
        self._count = 0

    def write(self, frame: Any, at: float) -> float:
        """Returns the seconds of it that were taken."""
        start_s, end_s = self._span
        length_s: float = frame.samples / frame.sample_rate
        head = max(0, round((start_s - at) * frame.sample_rate))
        tail = max(0, round((at + length_s - end_s) * frame.sample_rate))
        if head + tail >= frame.samples:
            return 0.0
        if self._stream is None:
            self._stream = self._sink.out.add_stream(self._codec, rate=self._rate, layout=self._layout)
            if self._codec != "flac":
                self._stream.bit_rate = 64_000 * len(self._stream.layout.channels)
            self._resampler = av.AudioResampler(self._stream.format.name, self._layout, self._rate)
            self._sink.begun()
            self._count = max(0, round((at - start_s) * self._rate))  # audio that begins after the video
        frame.pts = None
        for made in self._resampler.resample(_trimmed(frame, head, tail)):
            self._encode(made)
        return length_s

    def _encode(self, made: Any) -> None:
        made = _within_reason(made)
        made.pts, made.time_base = self._count, Fraction(1, self._rate)
        self._count += made.samples
        self._sink.mux(self._stream.encode(made))

    def finish(self) -> None:
        if self._stream is not None:
            for made in self._resampler.resample(None):
                self._encode(made)
            self._sink.mux(self._stream.encode(None))


def _within_reason(frame: Any) -> Any:
    """The frame with samples of at most `_LOUDEST`: damaged floats are any number, and FFmpeg's AAC encoder looks for a
    scale of the largest without end."""
    if not frame.format.name.startswith("flt"):
        return frame
    array = frame.to_ndarray()
    if abs(array).max(initial=0) <= _LOUDEST:  # not so where one is NaN
        return frame
    import numpy as np

    tame = np.nan_to_num(array, nan=0.0, posinf=_LOUDEST, neginf=-_LOUDEST).clip(-_LOUDEST, _LOUDEST)
    made = av.AudioFrame.from_ndarray(tame.astype(array.dtype), format=frame.format.name, layout=frame.layout.name)
    made.sample_rate = frame.sample_rate
    return made


def _trimmed(frame: Any, head: int, tail: int) -> Any:
    """The frame without its first and last samples."""
    if head == 0 and tail == 0:
        return frame
    array = frame.to_ndarray()
    channels = 1 if frame.format.is_planar else len(frame.layout.channels)
    kept = array[:, head * channels : array.shape[1] - tail * channels]
    made = av.AudioFrame.from_ndarray(kept.copy(), format=frame.format.name, layout=frame.layout.name)
    made.sample_rate = frame.sample_rate
    return made
