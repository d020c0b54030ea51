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

_RGB = 0  # FFmpeg's AVCOL_SPC_RGB; in H.264 it would say that there is no luma
_LIMITED = av.video.reformatter.ColorRange.MPEG  # what players expect of H.264; MJPEG has the full range
_FRAME_DURATION = 1 << 8  # FFmpeg's AV_CODEC_FLAG_FRAME_DURATION: frames say how long they are shown
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
            made = av.VideoFrame.from_ndarray(array, format="rgb24")
            made = made.reformat(width, height, "yuv420p", dst_colorspace=frame.colorspace)
        else:
            made = frame.reformat(width, height, "yuv420p", dst_color_range=_LIMITED)
        pts = max(round((at - self._span[0]) / _TIME), self._last + 1)
        self._last = pts
        made.pts, made.time_base = pts, _TIME
        made.duration = max(1, round(min(length_s, self._span[1] - at) / _TIME))  # or the last one gets the mean
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
        context.flags |= _FRAME_DURATION
        if frame.colorspace != _RGB:  # or players guess, and HD turns greener
            context.colorspace, context.color_range = frame.colorspace, _LIMITED
            context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
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
    """Encodes samples as AAC, Opus or FLAC; the first and the last frame are cut at the sample.

    What the packets leave out is silence, so that sound stays in sync; before the first sample only where there are no
    pictures, for a stream beside pictures tells when it begins."""

    def __init__(self, sink: Sink, medium: Any, span: tuple[float, float], request: dict[str, Any]) -> None:
        self._sink, self._span, self._codec = sink, span, request["audio_codec"]
        self._rate = _encoded_rate(self._codec, medium.audio.codec_context.sample_rate)
        self._layout = "mono" if medium.audio.codec_context.channels == 1 else "stereo"
        self._is_alone = medium.video is None
        self._stream: Any = None
        self._resampler: Any = None
        self._source: tuple[str, str, int] | None = None
        self._count = 0
        self._given_s = 0.0  # of the span, that the samples stand for which were taken

    def write(self, frame: Any, at: float) -> float:
        """Returns the seconds of it that were taken."""
        start_s, end_s = self._span
        rate = frame.sample_rate
        length_s: float = frame.samples / rate
        head = max(0, round((start_s - at) * rate))
        tail = max(0, round((at + length_s - end_s) * rate))
        if head + tail >= frame.samples:
            return 0.0
        if self._stream is None:
            self._begin(max(0.0, at - start_s))
        missing_s = at + head / rate - start_s - self._given_s
        if missing_s > taps.SLACK_S:
            self._silence(round(missing_s * self._rate))
            self._given_s += missing_s
        elif missing_s < -taps.SLACK_S:  # they come twice
            head += round(-missing_s * rate)
            if head + tail >= frame.samples:
                return 0.0
        self._given_s += (frame.samples - head - tail) / rate
        source = (frame.format.name, frame.layout.name, rate)
        if source != self._source:  # at the beginning, or where the stream changes
            self._drain()
            self._source = source
            self._resampler = av.AudioResampler(self._stream.format.name, self._layout, self._rate)
        frame.pts = None
        for made in self._resampler.resample(_trimmed(frame, head, tail)):
            self._encode(made)
        return length_s

    def _begin(self, late_s: float) -> None:
        self._stream = self._sink.out.add_stream(self._codec, rate=self._rate, layout=self._layout)
        if self._codec != "flac":
            self._stream.bit_rate = 64_000 * len(self._stream.layout.channels)
        self._sink.begun()
        if not self._is_alone:
            self._count, self._given_s = round(late_s * self._rate), late_s

    def _silence(self, num_samples: int) -> None:
        self._drain()
        while num_samples > 0:
            made = av.AudioFrame(self._stream.format.name, self._layout, min(num_samples, self._rate))
            for plane in made.planes:
                plane.update(bytes(plane.buffer_size))
            made.sample_rate = self._rate
            num_samples -= made.samples
            self._encode(made)

    def _drain(self) -> None:
        if self._resampler is not None:
            for made in self._resampler.resample(None):
                self._encode(made)
        self._resampler = self._source = None

    def _encode(self, made: Any) -> None:
        made = _within_reason(made)
        made.pts, made.time_base = self._count, Fraction(1, self._rate)
        self._count += made.samples
        self._sink.mux(self._stream.encode(made))

    def finish(self) -> None:
        if self._stream is not None:
            self._drain()
            self._sink.mux(self._stream.encode(None))


def _encoded_rate(codec: str, rate: int) -> int:
    """The sample rate to encode with: the one that is there, up to 48 kHz, or the next above that the codec knows."""
    rate = 48_000 if codec == "libopus" else min(rate, 48_000)
    known = av.codec.Codec(codec, "w").audio_rates or [rate]
    return min((each for each in known if each >= rate), default=48_000)


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
