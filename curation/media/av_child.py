"""The process in which untrusted video and audio is decoded: takes a request, answers, until its input closes.

Run as a file by `curation.media.av_decode`, never imported by it; imports the standard library, PyAV and numpy only.
Before the first byte it gives up memory, files, sockets and programs (`lockdown_child`). FFmpeg is given an open file
and the one demuxer that the first bytes name, no protocols, and the decoders of the allow list.

Request:  `<I`, a JSON object of that length (`op` and its options), and a descriptor of the medium beside it.
Answer:   messages, each `<cIQ` (kind, length of a JSON object, number of bytes behind it), the object, the bytes:
          `f` frames of a tap, `a` samples of a tap, `m` motion of frames, `c` a cut, `.` still working, and at last
          `e` the outcome. One `e` at the start says that it is ready.
"""

import contextlib
import importlib.util
import io
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REQUEST = struct.Struct("<I")
MESSAGE = struct.Struct("<cIQ")
MAX_DETAIL_CHARS = 200
HEARTBEAT_S = 1.0
# What PyAV raises on malformed media (its own errors are OSErrors or ValueErrors, and it looks up streams that appear
# while it reads); anything else ends the process, which the parent reports as a crash of these bytes.
MALFORMED: tuple[type[Exception], ...] = (OSError, ValueError, TypeError, LookupError, EOFError, ArithmeticError)
MALFORMED += (AttributeError, RuntimeError)
# Containers that tell the size of their pictures, and when they begin: in Matroska that follows from decoding order.
TELLING = ("mov",)
BARE = ("mp3", "aac")  # streams without a container
FIRST_FRAME_BYTES = 2048  # of MPEG audio, at most 1,441
BUFFER_BYTES = 1 << 18  # of one read by FFmpeg through Python: each costs some microseconds


def _neighbour(name: str) -> Any:
    """A module of this folder; its package is not importable here. One copy for all the children's modules."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class Refused(Exception):
    """The medium is not decoded (any further); carries the reason code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Answer:
    """Writes messages to the parent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._last = 0.0

    def send(self, kind: str, content: dict[str, Any], body: Any = b"") -> None:
        """One message. body: bytes or anything with a contiguous buffer."""
        view = memoryview(body).cast("B")
        encoded = json.dumps(content).encode()
        self._connection.sendall(MESSAGE.pack(kind.encode(), len(encoded), len(view)) + encoded)
        self._connection.sendall(view)
        self._last = time.monotonic()

    def still_working(self) -> None:
        """Say so, at most once a second."""
        if time.monotonic() - self._last > HEARTBEAT_S:
            self.send(".", {})


class Spent:
    """CPU time of this thread within FFmpeg, added to an outcome's `decoder_s`, `demux_s` or `scale_s`."""

    def __init__(self, out: dict[str, Any], kind: str) -> None:
        self._out, self._kind = out, kind

    def __enter__(self) -> None:
        self._before = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._out[self._kind] = self._out.get(self._kind, 0.0) + time.thread_time() - self._before


# Where an Ogg stream ends within its last packet but one, FFmpeg's demuxer gives the last a negative length, in 32 bits
# without sign: copied into Matroska, it makes a word last 27 hours.
WRAPPED = 1 << 31


def packets(container: Any, streams: Any, out: dict[str, Any]) -> Iterator[Any]:
    """Those of some streams, in the order of the file. Errors: FFmpegError."""
    left, spent = iter(container.demux(streams)), Spent(out, "demux_s")
    while True:
        with spent:
            packet = next(left, None)
        if packet is None:
            return
        if packet.duration and packet.duration >= WRAPPED and packet.stream.type == "audio":
            packet.duration = 0
        yield packet


class Medium:
    """An opened medium, checked by its header: `container`, the chosen `video` and `audio` streams (or None)."""

    def __init__(self, file: io.FileIO, limits: dict[str, Any], out: dict[str, Any]) -> None:
        self.container: Any = None
        self.video: Any = None
        self.audio: Any = None
        self._file, self._limits, self._out = file, limits, out

    def open(self, header_only: bool = False) -> "Medium":
        """header_only: no picture is decoded to find out what the container tells (as some do). Errors: Refused;
        av.error.FFmpegError."""
        import av

        limits, out = self._limits, self._out
        size = os.fstat(self._file.fileno()).st_size
        if size > limits["max_bytes"]:
            raise Refused("av.bomb", f"{size} bytes, at most {limits['max_bytes']}")
        self._file.seek(0)
        head = self._file.read(sniffing.HEAD_BYTES) or b""
        self._file.seek(sniffing.tag_bytes(head))
        first_frame = self._file.read(FIRST_FRAME_BYTES) or b""
        self._file.seek(0)
        name, refers = sniffing.sniff(head)
        out["container"] = name
        if refers:
            raise Refused("av.protocol_blocked", f"starts with {head[:24]!r}")
        if name is None or name not in limits["containers"]:
            raise Refused("av.container_not_allowed", name or f"starts with {head[:16]!r}")
        options = {
            "protocol_whitelist": "none",
            "codec_whitelist": ",".join(limits["codecs"]),
            "max_streams": str(limits["max_streams"] + 1),
            "max_pixels": str(limits["max_pixels"]),
            "threads": "1",
        }
        try:
            with Spent(out, "demux_s"):
                self.container = av.open(
                    self._file,
                    format=name,
                    container_options=options,
                    options={"skip_frame": "all"} if header_only and name in TELLING else {},
                    buffer_size=BUFFER_BYTES,
                    metadata_errors="replace",
                )
        except av.error.FFmpegError as error:
            raise Refused("av.bomb" if "maximum" in str(error) else "av.corrupt", f"{name}: {_words(error)}") from None
        self._describe(name in BARE and not sniffing.tells_length(name, first_frame))
        return self

    def _describe(self, guesses_length: bool) -> None:
        container, out, limits = self.container, self._out, self._limits
        streams = list(container.streams)
        out["num_streams"] = len(streams)
        out["streams"] = [_stream(each) for each in streams[: limits["max_streams"]]]
        if len(streams) > limits["max_streams"]:
            raise Refused("av.bomb", f"{len(streams)} streams, at most {limits['max_streams']}")
        self.video = self._first("video")
        self.audio = self._first("audio")
        if self.video is None and self.audio is None:
            known = [each["codec"] or "unknown" for each in out["streams"] if each["kind"] in ("video", "audio")]
            if known:
                raise Refused("av.codec_not_allowed", ", ".join(known))
            raise Refused("av.no_stream", ", ".join(each["kind"] for each in out["streams"]) or "no streams")
        self.start_s = (container.start_time or 0) / 1e6
        lengths = [float(each.duration * each.time_base) for each in streams if each.duration and each.time_base]
        length = max([*lengths, (container.duration or 0) / 1e6])
        if out["container"] == "matroska" and 0 < self.start_s < length:
            length -= self.start_s  # there the header tells the end, which of a recorded stream may be hours from zero
        length = 0.0 if guesses_length else length
        out["duration_s"] = length if 0 < length < 1e9 else None
        if length > limits["max_duration_s"]:
            raise Refused("av.too_long", f"{length:.0f} s, at most {limits['max_duration_s']:g}")
        if self.video is not None:
            self._check_video()
        if self.audio is not None:
            self._check_audio()

    def _first(self, kind: str) -> Any:
        """The default stream of a kind that may be decoded, else the first; a cover picture is no video."""
        allowed = []
        for each in getattr(self.container.streams, kind):
            context = each.codec_context
            is_cover = kind == "video" and bool(int(each.disposition) & 0x400)  # AV_DISPOSITION_ATTACHED_PIC
            if context is not None and context.codec.name in self._limits["codecs"] and not is_cover:
                allowed.append(each)
        return next((each for each in allowed if int(each.disposition) & 1), allowed[0] if allowed else None)

    def _check_video(self) -> None:
        context, limits = self.video.codec_context, self._limits
        width, height = context.width or 0, context.height or 0
        self._out |= {"video_codec": context.codec.name, "coded_width_px": width, "coded_height_px": height}
        rate = self.video.average_rate
        self._out["frame_rate_hz"] = float(rate) if rate else None
        self._out["video_index"] = self.video.index
        check_size(width, height, limits)
        if (self.video.frames or 0) > limits["max_frames"]:
            raise Refused("av.bomb", f"{self.video.frames} frames, at most {limits['max_frames']}")
        context.thread_type = "NONE"
        context.thread_count = 1

    def _check_audio(self) -> None:
        context, limits = self.audio.codec_context, self._limits
        rate, channels = context.sample_rate or 0, context.channels or 0
        self._out |= {"audio_codec": context.codec.name, "sample_rate_hz": rate, "num_channels": channels}
        self._out["audio_index"] = self.audio.index
        if rate > limits["max_sample_rate_hz"] or channels > limits["max_channels"]:
            raise Refused("av.bomb", f"{rate} Hz, {channels} channels")
        if rate < 1 or channels < 1:
            raise Refused("av.corrupt", f"{rate} Hz, {channels} channels")
        context.thread_type = "NONE"

    def close(self) -> None:
        """Free what FFmpeg holds."""
        if self.container is not None:
            self.container.close()


def check_size(width: int, height: int, limits: dict[str, Any]) -> None:
    """Errors: Refused."""
    if width < 1 or height < 1:
        raise Refused("av.corrupt", f"{width} x {height} pixels")
    if width * height > limits["max_pixels"]:
        raise Refused("av.bomb", f"{width} x {height} pixels, at most {limits['max_pixels']}")
    if max(width, height) > limits["max_aspect"] * min(width, height):
        raise Refused("av.bomb", f"{width} x {height} pixels, at most {limits['max_aspect']:g} to 1")


def _stream(each: Any) -> dict[str, Any]:
    context = each.codec_context
    language = each.metadata.get("language") if each.metadata else None
    return {"kind": each.type, "codec": context.codec.name if context is not None else None, "language": language}


def _words(error: Exception) -> str:
    """FFmpeg's words without the name of the file object."""
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


def needs_pictures(request: dict[str, Any]) -> bool:
    """Whether FFmpeg is to look at pictures when it opens the medium, which costs the decoding of a key frame."""
    if request["op"] == "decode":
        return bool(request["frames"] or request["motion"])
    return request["op"] == "cut" or (request["op"] == "probe" and not request["is_own"])


def answer_one(request: dict[str, Any], descriptor: int, answer: Answer, limits: dict[str, Any]) -> None:
    """Do what is asked of one medium and say how it went."""
    import av

    out: dict[str, Any] = {}
    malformed: tuple[type[Exception], ...] = (av.error.FFmpegError, *MALFORMED)
    with io.FileIO(descriptor, closefd=True) as file:
        medium = Medium(file, limits, out)
        try:
            medium.open(not needs_pictures(request))
            work = {"probe": reading.probe, "decode": reading.decode, "cut": cutting.cut, "texts": reading.texts}
            work[request["op"]](medium, request, answer, limits, out)
        except Refused as error:
            out.update(reason=error.reason, detail=str(error)[:MAX_DETAIL_CHARS])
        except MemoryError:
            out.update(reason="av.decoder_memory", detail=f"more than {limits['max_memory_bytes']} bytes")
        except av.error.MemoryError:
            out.update(reason="av.decoder_memory", detail="FFmpeg was refused memory")
        except malformed as error:
            out.update(reason="av.corrupt", detail=_words(error)[:MAX_DETAIL_CHARS])
        finally:
            with contextlib.suppress(*malformed):
                medium.close()
    answer.send("e", out)


def serve(connection: socket.socket, limits: dict[str, Any], is_locked: bool) -> None:
    """Say that it is ready, then answer requests until the connection closes."""
    answer = Answer(connection)
    answer.send("e", {"is_locked": is_locked})
    while True:
        head, descriptors, _, _ = socket.recv_fds(connection, REQUEST.size, 1)
        if len(head) < REQUEST.size or not descriptors:
            return
        request = b""
        (size,) = REQUEST.unpack(head)
        while len(request) < size:
            part = connection.recv(size - len(request))
            if not part:
                return
            request += part
        lockdown.refresh_cpu_limit(limits["timeout_s"])
        answer_one(json.loads(request), descriptors[0], answer, limits)


def main() -> None:
    """`av_child.py FOLDERS LIMITS` (both JSON; of the packages, of `AvLimits`), its connection as standard input."""
    limits = json.loads(sys.argv[2])
    reading.warm_up()
    lockdown.limit_resources(limits["max_memory_bytes"])
    serve(socket.socket(fileno=0), limits, lockdown.deny_system_calls())


if __name__ == "__main__":
    sys.path.extend(json.loads(sys.argv[1]))
    sys.modules["av_child"] = sys.modules["__main__"]
    lockdown, sniffing = _neighbour("lockdown_child"), _neighbour("av_sniff_child")
    reading, cutting = _neighbour("av_read_child"), _neighbour("av_cut_child")
    main()
