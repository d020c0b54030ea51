"""Cutting time ranges out of a medium, with its packets as they are or decoded and encoded anew.

Loaded as a file by `av_child.py`. Three ways: `copy` begins at the last key frame at or before the wanted start and
says where that is; `exact` decodes, so that the first frame is the first one at or after the start; `auto` copies where
a key frame lies within `tolerance_s` of the wanted start, else cuts exactly. Video and audio are cut at the same two
times and keep their places relative to each other.
"""

import contextlib
import sys
from typing import Any

import av

child = sys.modules["av_child"]
reading = child._neighbour("av_read_child")
taps = child._neighbour("av_taps_child")
writing = child._neighbour("av_write_child")

# What MP4 and Matroska can hold of the allow list without encoding anew; anything else is cut exactly.
_COPIES = {
    "mp4": {"h264", "hevc", "libdav1d", "av1", "mpeg4", "aac", "mp3", "mp3float", "alac", "flac", "opus", "libopus"},
    "matroska": {
        "h264", "hevc", "libdav1d", "av1", "mpeg4", "vp8", "vp9", "libvpx", "libvpx-vp9", "mjpeg", "theora",
        "mpeg2video", "aac", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac", "alac", "ac3",
        "eac3", "pcm_s16le",
    },
    "ogg": set(),  # only what was asked for, below
}  # fmt: skip
_SEEK_BACK_S = (0.0, 2.0, 10.0)  # how far before the wanted start to look for a place to begin
_FRONT_S = -1.0  # where to look at last; an index need not know the first key frame
_RUN_UP_S = 0.5  # that audio is decoded before its first sample is wanted
_MAX_HOLE_S = taps.SLACK_S  # in sound that is copied into Ogg, of which many readers believe that it has none


def cut(medium: Any, request: dict[str, Any], answer: Any, limits: dict[str, Any], out: dict[str, Any]) -> None:
    """Send one `c` message for each of the request's `spans`, in their order."""
    out["num_cuts"] = 0
    if request.get("streams") == "audio":
        if medium.audio is None:
            raise child.Refused("av.no_stream", "no sound in it")
        medium.video = None
    for index, (start_s, end_s) in enumerate(request["spans"]):
        try:
            facts, body = _cut_one(medium, (start_s, end_s), request, limits, answer, out)
        except (child.Refused, av.error.FFmpegError, *child.MALFORMED) as error:
            reason = error.reason if isinstance(error, child.Refused) else "av.corrupt"
            facts, body = {"reason": reason, "detail": str(error)[: child.MAX_DETAIL_CHARS]}, b""
        answer.send("c", {"index": index, **facts}, body)
        out["num_cuts"] += 1


def _cut_one(
    medium: Any,
    span: tuple[float, float],
    request: dict[str, Any],
    limits: dict[str, Any],
    answer: Any,
    out: dict[str, Any],
) -> tuple[dict[str, Any], bytes]:
    start_s, end_s = span
    streams = [each for each in (medium.video, medium.audio) if each is not None]
    holds = _COPIES[request["container"]] or {request["audio_codec"], request["audio_codec"].removeprefix("lib")}
    may_copy = all(each.codec_context.codec.name in holds for each in streams)
    mode = request["mode"]
    begin_s, seek_s = (
        _key_frame_before(medium, start_s, request, answer, out) if medium.video is not None else (start_s, start_s)
    )
    is_near = begin_s is not None and (mode == "copy" or start_s - begin_s <= request["tolerance_s"])
    if mode != "exact" and may_copy and begin_s is not None and is_near:
        _seek(medium, seek_s)
        made = None
        with contextlib.suppress(av.error.FFmpegError):  # as where two packets are decoded at one time: no container
            made = _copied(medium, begin_s, end_s, request, limits, answer, out)
        if made is not None:
            return made
    _seek(medium, max(0.0, seek_s - _RUN_UP_S) if seek_s >= 0 else seek_s)
    return _encoded(medium, (start_s, end_s), request, limits, answer, out)


def _seek(medium: Any, time_s: float) -> None:
    """Go to a place at or before `time_s`, as far as the container's index allows; to the very front where the time is
    negative, or where there is no way (FLV knows none to what lies before its first key frame)."""
    stream = medium.video or medium.audio
    target = int((time_s + medium.start_s) / float(stream.time_base))
    try:
        if time_s >= 0:
            medium.container.seek(target, stream=stream, backward=True)
        else:
            _open_again(medium)
    except av.error.FFmpegError:
        _open_again(medium)
    for each in (medium.video, medium.audio):
        if each is not None:
            each.codec_context.flush_buffers()


def _open_again(medium: Any) -> None:
    has_video = medium.video is not None
    medium.close()
    medium.open()
    if not has_video:  # sound alone is wanted
        medium.video = None


def _time(medium: Any, stamp: int, base: Any) -> float:
    return float(stamp * base) - float(medium.start_s)


def _slack_s(medium: Any, request: dict[str, Any]) -> float:
    """How much before an edge a frame may be shown that counts as being at it."""
    if request["slack_s"] is not None:
        return float(request["slack_s"])
    return 0.5 / float(medium.video.average_rate or 30)


def _key_frame_before(
    medium: Any, time_s: float, request: dict[str, Any], answer: Any, out: dict[str, Any]
) -> tuple[float | None, float]:
    """Where the last key frame at or before `time_s` begins (None if none is found), and from where it is reached: in
    some containers a seek lands behind its aim. (That place is negative where it is the front.)"""
    slack_s = _slack_s(medium, request)  # a cut is meant at the frame that is shown there
    for aim_s in (*(max(0.0, time_s - back_s) for back_s in _SEEK_BACK_S), _FRONT_S):
        _seek(medium, aim_s)
        found = None
        for packet in child.packets(medium.container, medium.video, out):
            answer.still_working()
            if packet.pts is None:
                continue
            at = _time(medium, packet.pts, packet.time_base)
            if packet.is_keyframe and at <= time_s + slack_s:
                found = at
            if at > time_s + 1.0:
                break
        if found is not None:
            return found, aim_s
    return None, _FRONT_S


def _copied(
    medium: Any,
    start_s: float,
    end_s: float,
    request: dict[str, Any],
    limits: dict[str, Any],
    answer: Any,
    out: dict[str, Any],
) -> tuple[dict[str, Any], bytes] | None:
    """The packets of the range; None where some do not say when they are decoded or shown, as of HEVC with reordered
    frames in Matroska and of B-frames in AVI: without these there would be holes, or no picture at all.

    Of video, all up to the first one in the order of decoding that is shown at the end or later: those after it may
    need it. So up to some frames less than wanted, and audio ends with them."""
    kept: dict[str, list[Any]] = {"video": [], "audio": []}
    size, done, last = 0, set[int](), dict[int, float]()
    streams = [each for each in (medium.video, medium.audio) if each is not None]
    for packet in child.packets(medium.container, streams, out):
        answer.still_working()
        index, kind = packet.stream.index, packet.stream.type
        if packet.size == 0 or index in done:
            continue
        if packet.pts is None:
            return None
        at = _time(medium, packet.pts, packet.time_base)
        now = at if packet.dts is None else _time(medium, packet.dts, packet.time_base)
        is_other_file = last.get(index, now) - now > taps.MAX_BACK_S
        last[index] = now
        is_wanted = at >= start_s - 1e-4 and (kind == "audio" or bool(kept["video"]) or packet.is_keyframe)
        if not is_wanted and not is_other_file:
            continue  # of audio, the packet that straddles the start: 25 ms at most
        if is_other_file or at >= end_s - 1e-4:
            done.add(index)
            if len(done) == len(streams):
                break
            continue
        if packet.dts is None:
            return None
        if kind == "video" and not packet.duration:  # the last frame of all would not be shown at all
            length_s = min(1 / float(medium.video.average_rate or 30), end_s - at)
            packet.duration = round(length_s / packet.time_base)
        size += packet.size
        if size > limits["max_cut_bytes"]:
            raise child.Refused("av.bomb", f"a cut of more than {limits['max_cut_bytes']} bytes")
        kept[kind].append(packet)
    if (medium.video is not None and not kept["video"]) or _has_holes(medium, kept["audio"], start_s, request):
        return None
    ends = {kind: max((_end(medium, each) for each in packets), default=0.0) for kind, packets in kept.items()}
    if medium.video is not None:
        kept["audio"] = [each for each in kept["audio"] if _middle(medium, each) <= ends["video"]]
        ends["audio"] = max((_end(medium, each) for each in kept["audio"]), default=0.0)
    counts = {kind: len(packets) for kind, packets in kept.items()}
    sink = writing.Sink(request["container"], limits["max_cut_bytes"], 0)
    made = {each.index: sink.out.add_stream_from_template(each, opaque=True) for each in streams}
    with sink.out:
        for packet in sorted(kept["video"] + kept["audio"], key=lambda each: each.dts * each.time_base):
            offset = round((start_s + medium.start_s) / packet.time_base)
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            packet.stream = made[packet.stream.index]
            sink.mux([packet])
    return _facts("copy", start_s, counts, ends), _whole(sink, counts)


def _has_holes(medium: Any, sound: list[Any], start_s: float, request: dict[str, Any]) -> bool:
    """Whether packets of sound alone leave out so much that it would be heard too early where only samples count."""
    if medium.video is not None:
        return False
    end_s = start_s
    for packet in sound:
        if _time(medium, packet.pts, packet.time_base) - end_s > _MAX_HOLE_S:
            return True
        end_s = _end(medium, packet) if request["container"] == "ogg" else float("inf")
    return False


def _end(medium: Any, packet: Any) -> float:
    return _time(medium, packet.pts + (packet.duration or 0), packet.time_base)


def _middle(medium: Any, packet: Any) -> float:
    return (_time(medium, packet.pts, packet.time_base) + _end(medium, packet)) / 2


def _encoded(
    medium: Any,
    span: tuple[float, float],
    request: dict[str, Any],
    limits: dict[str, Any],
    answer: Any,
    out: dict[str, Any],
) -> tuple[dict[str, Any], bytes]:
    start_s, end_s = span
    sink = writing.Sink(
        request["container"], limits["max_cut_bytes"], sum(each is not None for each in (medium.video, medium.audio))
    )
    slack_s = _slack_s(medium, request) if medium.video is not None else 0.0  # a rounded start keeps its frame
    writers: dict[int, Any] = {}
    if medium.video is not None:
        writers[medium.video.index] = writing.VideoWriter(sink, medium, (start_s, end_s), slack_s, request)
    if medium.audio is not None:
        writers[medium.audio.index] = writing.AudioWriter(sink, medium, (start_s, end_s), request)
    counts, ends = {"video": 0, "audio": 0}, {"video": 0.0, "audio": 0.0}
    follows = dict(ends)  # when the next frame is shown, if it does not say
    done: set[int] = set()
    with sink.out:
        for packet in child.packets(
            medium.container, [each for each in (medium.video, medium.audio) if each is not None], out
        ):
            answer.still_working()
            index, kind = packet.stream.index, packet.stream.type
            if index in done:
                continue
            for frame in _decoded(packet, out):
                at = _time(medium, frame.pts, frame.time_base) if frame.pts is not None else follows[kind]
                is_other_file = follows[kind] - at > taps.MAX_BACK_S
                follows[kind] = at + _length_s(medium, frame, kind)
                if is_other_file or at >= end_s - (slack_s if kind == "video" else 0.0):
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


def _length_s(medium: Any, frame: Any, kind: str) -> float:
    if kind == "audio":
        return float(frame.samples / frame.sample_rate)
    return float(frame.duration * frame.time_base) if frame.duration else 1 / float(medium.video.average_rate or 30)


def _decoded(packet: Any, out: dict[str, Any]) -> list[Any]:
    try:
        return list(reading.frames_of(packet, out))
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


def _whole(sink: Any, counts: dict[str, int]) -> bytes:
    if not any(counts.values()):
        raise child.Refused("av.corrupt", "no frame in this range")
    body: bytes = sink.buffer.getvalue()
    return body
