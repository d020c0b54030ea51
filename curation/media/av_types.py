"""What is asked of the audio-visual decoder and what comes back: limits, taps, pieces, outcomes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curation.reasons import Reason

VIDEO_CODECS = (
    "h264", "hevc", "libdav1d", "vp8", "vp9", "libvpx", "libvpx-vp9", "mpeg4", "mpeg1video", "mpeg2video", "mjpeg",
    "theora", "h263", "flv", "msmpeg4", "msmpeg4v2", "msmpeg4v1", "wmv1", "wmv2", "wmv3", "vc1", "ffv1",
)  # fmt: skip
AUDIO_CODECS = (
    "aac", "mp3", "mp3float", "mp2", "mp2float", "opus", "libopus", "vorbis", "flac", "alac", "ac3", "eac3", "wmav1",
    "wmav2", "amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "pcm_s16le", "pcm_s16be", "pcm_s24le",
    "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f64le", "pcm_u8", "pcm_s8", "pcm_mulaw", "pcm_alaw",
    "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_swf",
)  # fmt: skip
TEXT_CODECS = ("subrip", "srt", "webvtt", "mov_text", "text", "ass", "ssa")


@dataclass(frozen=True)
class AvLimits:
    """What a medium may ask of the decoder. Everything is checked by the header first, then while decoding.

    max_bytes: size of the file. max_duration_s: by the header, and of any time stamp (4 h). max_frames: decoded frames
    (10^6: 4.6 h at 60 Hz). max_pixels: of one frame (4096 x 2304). max_aspect: longer over shorter side.
    max_streams: in the container. max_channels, max_sample_rate_hz: of audio. max_cut_bytes: of one segment.
    max_memory_bytes: address space of the child (RLIMIT_AS); not enforced by macOS. timeout_s: for one request;
    stall_s: without a sign of life. containers: FFmpeg's demuxers; codecs: decoders, that may be opened at all.
    """

    max_bytes: int = 4 << 30
    max_duration_s: float = 4 * 3600.0
    max_frames: int = 1_000_000
    max_pixels: int = 4096 * 2304
    max_aspect: float = 20.0
    max_streams: int = 32
    max_channels: int = 16
    max_sample_rate_hz: int = 192_000
    max_cut_bytes: int = 256 << 20
    max_memory_bytes: int = 2_000_000_000
    timeout_s: float = 900.0
    stall_s: float = 20.0
    containers: tuple[str, ...] = (
        "mov", "matroska", "ogg", "avi", "flv", "mpegts", "mpeg", "asf", "wav", "flac", "mp3", "aac",
    )  # fmt: skip
    codecs: tuple[str, ...] = VIDEO_CODECS + AUDIO_CODECS + TEXT_CODECS


@dataclass(frozen=True)
class AvProbe:
    """What a medium is. reason: `av.*`, None where at least one stream can be decoded.

    container: FFmpeg's demuxer by the first bytes. duration_s: as the header claims. width_px, height_px: as shown,
    that is turned (by rotation_deg, clockwise) and with square pixels. frame_rate_hz: mean, by the header.
    has_video, has_audio: a first frame was decoded; video_start_s: when that of the video is shown, from the start of
    the container. streams: kind, codec and language of each stream.
    """

    container: str | None = None
    duration_s: float | None = None
    has_video: bool = False
    has_audio: bool = False
    video_codec: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    rotation_deg: int | None = None
    video_start_s: float | None = None
    frame_rate_hz: float | None = None
    audio_codec: str | None = None
    sample_rate_hz: int | None = None
    num_channels: int | None = None
    num_streams: int | None = None
    streams: tuple[dict[str, Any], ...] = ()
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class AvOutcome:
    """How a request went.

    reason, detail: None where all went well; what came before the reason is good, `verdict` says whether it is enough.
    video_end_s, audio_end_s: where the last decoded frame ended; packets_end_s: where the last packet of a stream ended
    that was not decoded, as nobody asked for it. num_frames, num_samples: decoded (samples a channel).
    damages: (stream, seconds) of what could not be decoded or is marked as damaged, at most 1,000; num_damages: of all.
    decoder_s: CPU time within FFmpeg's decoders; demux_s: in opening the container and reading packets; scale_s: in
    scaling frames. These differ from run to run, so they belong in no table that is compared.
    """

    reason: str | None = None
    detail: str | None = None
    probe: AvProbe = AvProbe()
    video_end_s: float | None = None
    audio_end_s: float | None = None
    packets_end_s: float | None = None
    num_frames: int = 0
    num_samples: int = 0
    damages: tuple[tuple[str, float], ...] = ()
    num_damages: int = 0
    decoder_s: float = field(default=0.0, compare=False)
    demux_s: float = field(default=0.0, compare=False)
    scale_s: float = field(default=0.0, compare=False)
    texts: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, content: dict[str, Any]) -> AvOutcome:
        """From the child's last message."""
        known = {each.name for each in fields(AvProbe)}
        seen = {name: value for name, value in content.items() if name in known}
        seen["streams"] = tuple(content.get("streams", ()))
        own = {each.name for each in fields(cls)} - {"probe", "damages"}
        return cls(
            **{name: value for name, value in content.items() if name in own and value is not None},
            probe=AvProbe(**seen),
            damages=tuple((str(kind), float(at)) for kind, at in content.get("damages", ())),
        )


@dataclass(frozen=True)
class GoodPart:
    """When what could be decoded of a damaged medium is enough. The share is of the duration that the header claims.

    slack_s: how much earlier than claimed a stream may end without being called cut off; headers are not exact.
    """

    keep: bool = True
    min_s: float = 2.0
    min_share: float = 0.5
    slack_s: float = 1.0


def verdict(outcome: AvOutcome, policy: GoodPart) -> tuple[str | None, str | None]:
    """(reason, detail) of a decoded medium under a policy; (None, detail or None) where it, or its good part, is kept.

    The good part ends at the first damage of the stream that is damaged first.
    """
    end = max(outcome.video_end_s or 0.0, outcome.audio_end_s or 0.0)
    claimed = outcome.probe.duration_s or end
    good = min([end, *(at for _, at in outcome.damages)])
    there = max(end, outcome.packets_end_s or 0.0)  # pictures may end before the sound does
    is_cut = claimed - there > max(policy.slack_s, 0.02 * claimed)
    if outcome.reason is None and not outcome.num_damages and not is_cut:
        return None, None
    reason = outcome.reason or (Reason.AV_CORRUPT if outcome.num_damages else Reason.AV_TRUNCATED).value
    detail = outcome.detail or f"good until {good:.2f} s of {claimed:.2f} s"
    hopeless = outcome.reason is not None and outcome.reason not in _PARTIAL
    enough = policy.keep and good >= policy.min_s and good >= policy.min_share * claimed
    return (reason, detail) if hopeless or not enough else (None, detail)


_PARTIAL = {Reason.AV_CORRUPT.value, Reason.AV_TRUNCATED.value}


@dataclass(frozen=True)
class FrameTap:
    """Which frames are drawn, and at which size.

    rule: `every` (value: k, each k-th frame from the first), `rate` (value: frames a second, the frame that is shown at
    start + i / value), `times` (value: seconds, ascending), `keyframes`. Size: width_px x height_px exactly, or the
    shorter side at most short_side_px (never enlarged), or as it is. pixels: `rgb24` or `gray`.
    """

    rule: Literal["every", "rate", "times", "keyframes"] = "every"
    value: float | tuple[float, ...] = 1
    short_side_px: int | None = None
    width_px: int | None = None
    height_px: int | None = None
    pixels: Literal["rgb24", "gray"] = "rgb24"
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.rule == "times":
            if not isinstance(self.value, tuple) or list(self.value) != sorted(self.value):
                raise ValueError(f"the rule 'times' wants ascending seconds, not {self.value!r}")
        elif (
            isinstance(self.value, tuple) or self.value <= 0 or (self.rule == "every" and self.value != int(self.value))
        ):
            raise ValueError(f"the rule {self.rule!r} wants a positive {'whole ' * (self.rule == 'every')}number")
        if (self.width_px is None) != (self.height_px is None):
            raise ValueError("give both width_px and height_px, or neither")


@dataclass(frozen=True)
class AudioTap:
    """rate_hz: None as it is. num_channels: 1 mixed down; 2 as it is, at most two. samples: `flt` or `s16`."""

    rate_hz: int | None = None
    num_channels: Literal[1, 2] = 1
    samples: Literal["flt", "s16"] = "flt"


@dataclass(frozen=True)
class Wanted:
    """What one pass of decoding is to give: several taps, from start_s to end_s (seconds; None: the end)."""

    frames: tuple[FrameTap, ...] = ()
    audio: tuple[AudioTap, ...] = ()
    motion: bool = False
    start_s: float = 0.0
    end_s: float | None = None

    def as_request(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Frames:
    """tap: which of `Wanted.frames`. times_s: float64 [n]. is_damaged: bool [n]. pixels: uint8 [n, H, W(, 3)]."""

    tap: int
    times_s: npt.NDArray[np.float64]
    is_damaged: npt.NDArray[np.bool_]
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Samples:
    """tap: which of `Wanted.audio`. start_s: time of the tap's first sample. pcm: float32 or int16 [n, channels]."""

    tap: int
    start_s: float
    rate_hz: int
    pcm: npt.NDArray[Any]


@dataclass(frozen=True)
class Motion:
    """grid: float32 [n, 16], mean length of the codec's motion vectors in frame heights on a 4 x 4 grid; -1: none."""

    times_s: npt.NDArray[np.float64]
    grid: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cutting:
    """How segments are cut; see `av_cut_child.py`. crf, preset: x264's; audio_codec: where encoded anew; streams: which
    are kept (Ogg takes sound only). slack_s: a frame so much before an edge counts as being at it, for times are
    rounded; None: half a frame's time, right for a constant frame rate."""

    mode: Literal["copy", "exact", "auto"] = "auto"
    tolerance_s: float = 0.04
    container: Literal["mp4", "matroska", "ogg"] = "mp4"
    audio_codec: Literal["aac", "libopus", "flac"] = "aac"
    streams: Literal["all", "audio"] = "all"
    crf: int = 20
    preset: str = "veryfast"
    slack_s: float | None = None


@dataclass(frozen=True)
class Cut:
    """A segment as a medium of its own. start_s: where it begins in the source (at or before the wanted start for
    `copy`); video_end_s, audio_end_s: where its streams end there; num_frames: as counted; body: the bytes."""

    index: int
    mode: str | None = None
    start_s: float | None = None
    video_end_s: float | None = None
    audio_end_s: float | None = None
    num_frames: int = 0
    body: bytes | None = None
    reason: str | None = None
    detail: str | None = None


Chunk = Frames | Samples | Motion | Cut


def chunk_of(kind: bytes, content: dict[str, Any], body: bytearray) -> Chunk:
    """A piece from the child's message. Errors: KeyError, ValueError, TypeError where it does not fit together."""
    match kind:
        case b"f":
            pixels = np.frombuffer(body, np.uint8).reshape(content["shape"])
            return Frames(content["tap"], np.array(content["times"]), np.array(content["damaged"], bool), pixels)
        case b"a":
            size = len(body) // max(1, int(np.prod(content["shape"])))
            pcm = np.frombuffer(body, np.float32 if size == 4 else np.int16).reshape(content["shape"])
            return Samples(content["tap"], float(content["start_s"]), int(content["rate_hz"]), pcm)
        case b"m":
            return Motion(np.array(content["times"]), np.frombuffer(body, np.float32).reshape(-1, 16))
        case b"c":
            return Cut(**content, body=bytes(body) or None)
    raise ValueError(f"a message of kind {kind!r}")


class Gathered:
    """Collects everything into arrays: `frames[tap]`, `samples[tap]`, `motion`."""

    def __init__(self, max_bytes: int) -> None:
        self.is_full = False
        self._left = max_bytes
        self._pieces: dict[tuple[str, int], list[Any]] = {}

    def add(self, chunk: Chunk) -> None:
        array = {Frames: "pixels", Samples: "pcm", Motion: "grid"}[type(chunk)]
        self._left -= getattr(chunk, array).nbytes
        self.is_full = self._left < 0
        if not self.is_full:
            self._pieces.setdefault((type(chunk).__name__, getattr(chunk, "tap", 0)), []).append(chunk)

    def frames(self, tap: int = 0) -> Frames | None:
        found = self._pieces.get(("Frames", tap))
        if not found:
            return None
        times, damaged = (np.concatenate([getattr(each, name) for each in found]) for name in ("times_s", "is_damaged"))
        return Frames(tap, times, damaged, np.concatenate([each.pixels for each in found]))

    def samples(self, tap: int = 0) -> Samples | None:
        found = self._pieces.get(("Samples", tap))
        if not found:
            return None
        return Samples(tap, found[0].start_s, found[0].rate_hz, np.concatenate([each.pcm for each in found]))

    def motion(self) -> Motion | None:
        found = self._pieces.get(("Motion", 0))
        if not found:
            return None
        return Motion(np.concatenate([e.times_s for e in found]), np.concatenate([e.grid for e in found]))
