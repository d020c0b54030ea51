"""Cutting time ranges out of a medium, with its packets as they are or decoded and encoded anew.

Loaded as a file by `av_child.py`. Three ways: `copy` begins at the last key frame at or before the wanted start and
says where that is; `exact` decodes, so that the first frame is the first one at or after the start; `auto` copies where
a key frame lies within `tolerance_s` of the wanted start, else cuts exactly. Video and audio are cut at the same two
times and keep their places relative to each other.
"""

import io
import sys
from fractions import Fraction
from typing import Any

import av

child = sys.modules["av_child"]
taps = child._neighbour("av_taps_child")

# What MP4 and Matroska can hold of the allow list without encoding anew; anything else is cut exactly.
_COPIES = {
    "mp4": {"h264", "hevc", "libdav1d", "av1", "mpeg4", "aac", "mp3", "mp3float", "alac", "flac", "opus", "libopus"},
    "matroska": {
        "h264", "hevc", "libdav1d", "av1", "mpeg4", "vp8", "vp9", "libvpx", "libvpx-vp9", "mjpeg", "theora",
        "mpeg2video", "aac", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac", "alac", "ac3",
        "eac3", "pcm_s16le",
    },
}  # fmt: skip
_LIMITED = av.video.reformatter.ColorRange.MPEG  # what players expect of H.264; MJPEG has the full range
_TIME = Fraction(1, 1_000_000)
_SEEK_BACK_S = (0.0, 2.0, 10.0)  # how far before the wanted start to look for a place to begin; at last, at the front
_RUN_UP_S = 0.5  # that audio is decoded before its first sample is wanted


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


def cut(medium: Any, request: dict[str, Any], answer: Any, limits: dict[str, Any], out: dict[str, Any]) -> None:
    """Send one `c` message for each of the request's `spans`, in their order."""
    out["num_cuts"] = 0
    for index, (start_s, end_s) in enumerate(request["spans"]):
        try:
            facts, body = _cut_one(medium, start_s, end_s, request, limits, answer)
        except (child.Refused, av.error.FFmpegError, *child.MALFORMED) as error:
            reason = error.reason if isinstance(error, child.Refused) else "av.corrupt"
            facts, body = {"reason": reason, "detail": str(error)[: child.MAX_DETAIL_CHARS]}, b""
        answer.send("c", {"index": index, **facts}, body)
        out["num_cuts"] += 1


def _cut_one(
    medium: Any, start_s: float, end_s: float, request: dict[str, Any], limits: dict[str, Any], answer: Any
) -> tuple[dict[str, Any], bytes]:
    streams = [each for each in (medium.video, medium.audio) if each is not None]
    may_copy = all(each.codec_context.codec.name in _COPIES[request["container"]] for each in streams)
    mode = request["mode"]
    begin_s, seek_s = _key_frame_before(medium, start_s, answer) if medium.video is not None else (start_s, start_s)
    is_near = begin_s is not None and (mode == "copy" or start_s - begin_s <= request["tolerance_s"])
    if mode != "exact" and may_copy and begin_s is not None and is_near:
        _seek(medium, seek_s)
        return _copied(medium, begin_s, end_s, request, limits, answer)
    _seek(medium, max(0.0, seek_s - _RUN_UP_S))
    return _encoded(medium, start_s, end_s, request, limits, answer)


def _seek(medium: Any, time_s: float) -> None:
    stream = medium.video or medium.audio
    target = int((time_s + medium.start_s) / float(stream.time_base))
    medium.container.seek(target, stream=stream, backward=True)
    for each in (medium.video, medium.audio):
        if each is not None:
            each.codec_context.flush_buffers()


def _time(medium: Any, stamp: int, base: Any) -> float:
    return float(stamp * base) - float(medium.start_s)


def _key_frame_before(medium: Any, time_s: float, answer: Any) -> tuple[float | None, float]:
    """Where the last key frame at or before `time_s` begins (None if none is found), and from where it is reached: in
    some containers a seek lands behind its aim."""
    half_s = 0.5 / float(medium.video.average_rate or 30)  # a cut is meant at the frame that is shown there
    for back_s in (*_SEEK_BACK_S, time_s):
        aim_s = max(0.0, time_s - back_s)
        _seek(medium, aim_s)
        found = None
        for packet in medium.container.demux(medium.video):
            answer.still_working()
            if packet.pts is None:
                continue
            at = _time(medium, packet.pts, packet.time_base)
            if packet.is_keyframe and at <= time_s + half_s:
                found = at
            if at > time_s + 1.0:
                break
        if found is not None:
            return found, aim_s
    return None, 0.0


def _copied(
    medium: Any, start_s: float, end_s: float, request: dict[str, Any], limits: dict[str, Any], answer: Any
) -> tuple[dict[str, Any], bytes]:
    """The packets of the range. Of video, all up to the first one in the order of decoding that is shown at the end or
    later: those after it may need it. So up to some frames less than wanted, and audio ends with them."""
    kept: dict[str, list[Any]] = {"video": [], "audio": []}
    size, done = 0, set[int]()
    streams = [each for each in (medium.video, medium.audio) if each is not None]
    for packet in medium.container.demux(streams):
        answer.still_working()
        index, kind = packet.stream.index, packet.stream.type
        if packet.dts is None or packet.pts is None or index in done:
            continue
        at = _time(medium, packet.pts, packet.time_base)
        is_wanted = at >= start_s - 1e-4 and (kind == "audio" or bool(kept["video"]) or packet.is_keyframe)
        if not is_wanted:
            continue  # of audio, the packet that straddles the start: 25 ms at most
        if at >= end_s - 1e-4:
            done.add(index)
            if len(done) == len(streams):
                break
            continue
        size += packet.size
        if size > limits["max_cut_bytes"]:
            raise child.Refused("av.bomb", f"a cut of more than {limits['max_cut_bytes']} bytes")
        kept[kind].append(packet)
    ends = {kind: max((_end(medium, each) for each in packets), default=0.0) for kind, packets in kept.items()}
    if medium.video is not None and kept["video"]:
        kept["audio"] = [each for each in kept["audio"] if _middle(medium, each) <= ends["video"]]
        ends["audio"] = max((_end(medium, each) for each in kept["audio"]), default=0.0)
    counts = {kind: len(packets) for kind, packets in kept.items()}
    sink = Sink(request["container"], limits["max_cut_bytes"], 0)
    made = {each.index: sink.out.add_stream_from_template(each, opaque=True) for each in streams}
    with sink.out:
        for packet in sorted(kept["video"] + kept["audio"], key=lambda each: each.dts * each.time_base):
            offset = round((start_s + medium.start_s) / packet.time_base)
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            packet.stream = made[packet.stream.index]
            sink.mux([packet])
    return _facts("copy", start_s, counts, ends), _whole(sink, counts)


def _end(medium: Any, packet: Any) -> float:
    return _time(medium, packet.pts + (packet.duration or 0), packet.time_base)


def _middle(medium: Any, packet: Any) -> float:
    return (_time(medium, packet.pts, packet.time_base) + _end(medium, packet)) / 2


def _encoded(
    medium: Any, start_s: float, end_s: float, request: dict[str, Any], limits: dict[str, Any], answer: Any
) -> tuple[dict[str, Any], bytes]:
    sink = Sink(
        request["container"], limits["max_cut_bytes"], sum(each is not None for each in (medium.video, medium.audio))
    )
    # A half frame early, so that a start that was rounded does not lose its frame.
    slack_s = 0.5 / float(medium.video.average_rate or 30) if medium.video is not None else 0.0
    writers: dict[int, Any] = {}
    if medium.video is not None:
        writers[medium.video.index] = VideoWriter(sink, medium, (start_s, end_s), slack_s, request)
    if medium.audio is not None:
        writers[medium.audio.index] = AudioWriter(sink, medium, (start_s, end_s), request)
    counts, ends = {"video": 0, "audio": 0}, {"video": 0.0, "audio": 0.0}
    done: set[int] = set()
    with sink.out:
        for packet in medium.container.demux([each for each in (medium.video, medium.audio) if each is not None]):
            answer.still_working()
            index, kind = packet.stream.index, packet.stream.type
            if index in done:
                continue
            for frame in _decoded(packet):
                at = _time(medium, frame.pts, frame.time_base) if frame.pts is not None else ends[kind]
                if at >= end_s - (slack_s if kind == "video" else 0.0):
                    done.add(index)
                    break
                length_s = writers[index].write(frame, at)
                if length_s > 0:
                    counts[kind] += 1
                    ends[kind] = min(max(ends[kind], at + length_s), end_s)
            if len(done) == len(writers):
                break
        for writer in writers.values():
            writer.finish()
        sink.release()
    return _facts("exact", start_s, counts, ends), _whole(sink, counts)


def _decoded(packet: Any) -> list[Any]:
    try:
        return list(packet.decode())
    except av.error.FFmpegError:
        return []


def _facts(mode: str, start_s: float, counts: dict[str, int], ends: dict[str, float]) -> dict[str, Any]:
    return {
        "mode": mode,
        "start_s": round(start_s, 6),
        "video_end_s": round(ends["video"], 6) if counts["video"] else None,
        "audio_end_s": round(ends["audio"], 6) if counts["audio"] else None,
        "num_frames": counts["video"],
    }


def _whole(sink: Sink, counts: dict[str, int]) -> bytes:
    if not any(counts.values()):
        raise child.Refused("av.corrupt", "no frame in this range")
    return sink.buffer.getvalue()


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
        array = taps.pixels(frame, width, height, "rgb24", self._turn) if self._turn else None
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
        self._sink.begun()
        self._stream.options = {"crf": str(self._request["crf"]), "preset": self._request["preset"], "threads": "1"}

    def finish(self) -> None:
        if self._stream is not None:
            self._sink.mux(self._stream.encode(None))


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
        made.pts, made.time_base = self._count, Fraction(1, self._rate)
        self._count += made.samples
        self._sink.mux(self._stream.encode(made))

    def finish(self) -> None:
        if self._stream is not None:
            for made in self._resampler.resample(None):
                self._encode(made)
            self._sink.mux(self._stream.encode(None))


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
