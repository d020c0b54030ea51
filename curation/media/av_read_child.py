"""Decoding one medium in one pass: frames of several taps, samples of several taps, motion, and embedded subtitles.

Loaded as a file by `av_child.py`. Times are seconds from the start of the container (its first stream's start), as the
presentation time stamps say; the rotation and the pixels' aspect that the container asks for are applied.
"""

import importlib
import io
import pkgutil
import sys
from typing import Any

import av
import numpy as np

child = sys.modules["av_child"]
taps = child._neighbour("av_taps_child")

MAX_DAMAGES = 1_000
MAX_TEXTS = 20_000
MAX_TEXT_BYTES = 10_000
_TEXT_CODECS = ("subrip", "srt", "webvtt", "mov_text", "text", "ass", "ssa")
_MAX_PROBE_PACKETS = 500  # of the video stream until its first frame; a GOP is below 300 by far most often


def frames_of(packet: Any, out: dict[str, Any]) -> Any:
    """What a packet decodes to; `out` gets the CPU time that the decoder took. Errors: FFmpegError."""
    if packet.size == 0 and packet.dts is not None:  # not the flush at the end: Theora's "the last frame once more"
        return []
    with child.Spent(out, "decoder_s"):
        return packet.decode()


class Damages:
    """Where the decoder stumbled: (stream, seconds), bounded; the number is exact."""

    def __init__(self) -> None:
        self.places: list[tuple[str, float]] = []
        self.count = 0

    def add(self, kind: str, time_s: float) -> None:
        self.count += 1
        if len(self.places) < MAX_DAMAGES:
            self.places.append((kind, round(time_s, 3)))


def probe(medium: Any, request: dict[str, Any], answer: Any, limits: dict[str, Any], out: dict[str, Any]) -> None:
    """Decode the first frame of each stream: what a header promises and what is there differ often enough."""
    left = {each.index for each in (medium.video, medium.audio) if each is not None}
    streams = [each for each in (medium.video, medium.audio) if each is not None]
    seen = 0
    for packet in child.packets(medium.container, streams, out):
        seen += 1
        if packet.stream.index not in left:
            continue
        try:
            frames = frames_of(packet, out) or (_drained(packet, out) if request["is_own"] else [])
        except av.error.FFmpegError:
            frames = []
        for frame in frames:
            left.discard(packet.stream.index)
            if packet.stream.type == "video":
                taps.shape_of(frame, medium.video, limits, out)
                out["video_start_s"] = float((frame.pts or 0) * packet.time_base) - medium.start_s
            break
        answer.still_working()
        if not left or seen > _MAX_PROBE_PACKETS:
            break
    out["has_video"] = medium.video is not None and medium.video.index not in left
    out["has_audio"] = medium.audio is not None and medium.audio.index not in left
    if not out["has_video"] and not out["has_audio"]:
        raise child.Refused("av.corrupt", f"no frame in the first {seen} packets")


def _drained(packet: Any, out: dict[str, Any]) -> Any:
    """The frame of a key frame's packet without the packets that a decoder waits for, to put frames in their order."""
    context = packet.stream.codec_context
    if packet.stream.type != "video" or not packet.is_keyframe:
        return []
    with child.Spent(out, "decoder_s"):
        frames = context.decode(None)
        context.flush_buffers()
    return frames or frames_of(packet, out)


def decode(medium: Any, request: dict[str, Any], answer: Any, limits: dict[str, Any], out: dict[str, Any]) -> None:
    """Send what the taps of `request` ask for. `out` gets where each stream ended and where it was damaged."""
    start, end = float(request["start_s"]), request["end_s"]
    window = (start, min(end if end is not None else float("inf"), limits["max_duration_s"]))
    video = audio = None
    if medium.video is not None and (request["frames"] or request["motion"]):
        video = VideoPass(medium, request, window, answer, limits, out)
    if medium.audio is not None and request["audio"]:
        audio = AudioPass(medium, request, window, answer, limits, out)
    passes = {each.stream.index: each for each in (video, audio) if each is not None}
    if not passes:
        raise child.Refused("av.no_stream", "no stream of the kind that is wanted")
    damages = Damages()
    if start > 0:
        medium.container.seek(int((start + medium.start_s) * 1e6), backward=True)
    try:
        streams = [each for each in (medium.video, medium.audio) if each is not None]
        for packet in child.packets(medium.container, streams, out):
            each = passes.get(packet.stream.index)
            if each is None:
                note_end(packet, medium.start_s, out)
            elif not each.is_done:
                each.take(packet, damages)
            answer.still_working()
            if all(one.is_done for one in passes.values()):
                break
    except av.error.FFmpegError:
        damages.add("container", max(each.end_s or 0.0 for each in passes.values()))
    for each in passes.values():
        each.finish()
    out["damages"], out["num_damages"] = damages.places, damages.count
    out["has_video"] = video is not None and video.end_s is not None
    out["has_audio"] = audio is not None and audio.end_s is not None
    if not out["has_video"] and not out["has_audio"]:
        raise child.Refused("av.corrupt", "not a single frame")


def note_end(packet: Any, zero_s: float, out: dict[str, Any]) -> None:
    """Where a packet ends that is not decoded."""
    if packet.pts is not None:
        end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base) - zero_s
        out["packets_end_s"] = max(out.get("packets_end_s", 0.0), end_s)


class VideoPass:
    """Takes the packets of the video stream; hands each frame to the taps."""

    def __init__(
        self,
        medium: Any,
        request: dict[str, Any],
        window: tuple[float, float],
        answer: Any,
        limits: dict[str, Any],
        out: dict[str, Any],
    ) -> None:
        self.stream, self.is_done = medium.video, False
        self.end_s: float | None = None
        self._window, self._limits, self._out, self._zero_s = window, limits, out, medium.start_s
        self._taps = [taps.FrameTap(k, each, window, answer, out) for k, each in enumerate(request["frames"])]
        context = self.stream.codec_context
        if request["motion"]:
            context.options = {"flags2": "+export_mvs"}
            self._taps.append(taps.MotionTap(answer, window))
        elif all(each["rule"] == "keyframes" for each in request["frames"]):
            context.skip_frame = "NONKEY"
        rate = self.stream.average_rate
        self._step_s = 1 / float(rate) if rate else 0.04
        self._is_tainted, self._count = False, 0
        self._last_s: float | None = None

    def take(self, packet: Any, damages: Damages) -> None:
        """Decode one packet. A frame is damaged if the decoder says so, and then all until the next key frame."""
        try:
            frames = frames_of(packet, self._out)
        except MemoryError:
            raise  # FFmpeg's is of both kinds; that is no damage of the medium
        except av.error.FFmpegError:
            damages.add("video", self.end_s or 0.0)
            self._is_tainted = True
            return
        for frame in frames:
            self._count += 1
            if self._count > self._limits["max_frames"]:
                raise child.Refused("av.bomb", f"more than {self._limits['max_frames']} frames")
            self._take_frame(frame, damages)

    def _take_frame(self, frame: Any, damages: Damages) -> None:
        if self._last_s is None:
            taps.shape_of(frame, self.stream, self._limits, self._out)
        else:
            child.check_size(frame.width, frame.height, self._limits)
        following = self._step_s if self._last_s is None else self._last_s + self._step_s
        time_s = following if frame.time is None else float(frame.time) - self._zero_s
        if frame.time is None and self._last_s is None:
            time_s = 0.0
        if self._last_s is not None and self._last_s - time_s > taps.MAX_BACK_S:
            damages.add("video", self.end_s or 0.0)
            self.is_done = True
            return
        if self._last_s is not None and time_s <= self._last_s:
            time_s = self._last_s + 1e-6  # time stamps that do not rise: the order of decoding counts
        self._is_tainted = frame.is_corrupt or (self._is_tainted and not frame.key_frame)
        if frame.is_corrupt:
            damages.add("video", time_s)
        if time_s >= self._window[1]:
            self.is_done = True
            if time_s >= self._limits["max_duration_s"]:
                raise child.Refused("av.too_long", f"a frame at {time_s:.0f} s")
            return
        duration = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else self._step_s
        self._last_s, self.end_s = time_s, time_s + duration
        for tap in self._taps:
            tap.offer(frame, time_s, self._is_tainted)
        self.is_done = all(tap.is_served for tap in self._taps)

    def finish(self) -> None:
        for tap in self._taps:
            tap.finish(self.end_s or 0.0)
        self._out["video_end_s"], self._out["num_frames"] = self.end_s, self._count


class AudioPass:
    """Takes the packets of the audio stream; hands each frame to the taps."""

    def __init__(
        self,
        medium: Any,
        request: dict[str, Any],
        window: tuple[float, float],
        answer: Any,
        limits: dict[str, Any],
        out: dict[str, Any],
    ) -> None:
        self.stream, self.is_done = medium.audio, False
        self.end_s: float | None = None
        self._window, self._limits, self._out, self._zero_s = window, limits, out, medium.start_s
        self._taps = [taps.AudioTap(k, each, window, answer) for k, each in enumerate(request["audio"])]
        self._num_samples = 0
        self._floats = taps.Floats()

    def take(self, packet: Any, damages: Damages) -> None:
        try:
            frames = frames_of(packet, self._out)
        except MemoryError:
            raise  # FFmpeg's is of both kinds; that is no damage of the medium
        except av.error.FFmpegError:
            damages.add("audio", self.end_s or 0.0)
            return
        for frame in frames:
            time_s = self.end_s or 0.0 if frame.time is None else float(frame.time) - self._zero_s
            length_s = frame.samples / frame.sample_rate
            if frame.is_corrupt:
                damages.add("audio", time_s)
            if time_s >= self._window[1]:
                self.is_done = True
                if time_s >= self._limits["max_duration_s"]:
                    raise child.Refused("av.too_long", f"samples at {time_s:.0f} s")
                return
            gap_s = 0.0 if self.end_s is None else time_s - self.end_s
            if self.end_s is not None and (gap_s > taps.MAX_GAP_S or -gap_s > taps.MAX_BACK_S):
                damages.add("audio", self.end_s)  # what comes after that belongs to something else
                self.is_done = True
                return
            self._num_samples += frame.samples
            if self._num_samples > self._limits["max_duration_s"] * self._limits["max_sample_rate_hz"]:
                raise child.Refused("av.bomb", "more samples than its time can hold")
            samples = self._floats.of(frame)
            for tap in self._taps:
                tap.offer(samples, frame.sample_rate, time_s)
            self.end_s = time_s + length_s

    def finish(self) -> None:
        for tap in self._taps:
            tap.finish()
        self._out["audio_end_s"], self._out["num_samples"] = self.end_s, self._num_samples


def texts(medium: Any, _request: dict[str, Any], answer: Any, _limits: dict[str, Any], out: dict[str, Any]) -> None:
    """The packets of embedded text subtitles, as the container holds them: `curation.av.subtitles` reads them."""
    streams = [each for each in medium.container.streams if each.type == "subtitle"]
    named = {each.index: (each.codec_context.codec.name if each.codec_context else None) for each in streams}
    wanted = [each for each in streams if named[each.index] in _TEXT_CODECS]
    found: list[dict[str, Any]] = []
    out["texts"] = found
    if not wanted:
        return
    try:
        for packet in medium.container.demux(wanted):
            answer.still_working()
            if packet.size == 0 or packet.pts is None:
                continue
            if len(found) >= MAX_TEXTS:
                break
            begin = float(packet.pts * packet.time_base) - medium.start_s
            length = float((packet.duration or 0) * packet.time_base)
            found.append(
                {
                    "stream": packet.stream.index,
                    "codec": named[packet.stream.index],
                    "language": packet.stream.metadata.get("language"),
                    "start_s": begin,
                    "end_s": begin + length,
                    "text": bytes(packet)[:MAX_TEXT_BYTES].decode("latin-1"),  # bytes in JSON; made UTF-8 by the reader
                }
            )
    except av.error.FFmpegError:
        out["num_damages"] = 1


def warm_up() -> None:
    """Use everything once, so that nothing needs to be opened after the rights are given up."""
    for module in pkgutil.walk_packages(av.__path__, "av."):  # PyAV imports some at the first stream of their kind
        if not module.name.endswith(("__main__", ".datasets")):
            importlib.import_module(module.name)
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as made:
        video, audio = made.add_stream("libx264", rate=25), made.add_stream("aac", rate=48000)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        video.options = {"threads": "1"}
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        for number in range(3):
            frame.pts = number
            made.mux(video.encode(frame))
        made.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = 48000, 0
        made.mux(audio.encode(samples))
        made.mux(audio.encode(None))
    with av.open(io.BytesIO(sink.getvalue()), "r", format="mov") as read:
        taps.pixels(next(read.decode(read.streams.video[0])), 16, 16, "rgb24", 0, {})
    with av.open(io.BytesIO(sink.getvalue()), "r", format="mov") as read:
        samples = next(read.decode(read.streams.audio[0]))
        av.AudioResampler("s16", "mono", 16000).resample(samples)
