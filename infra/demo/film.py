"""Draw and encode the films of the demo: pictures on a moving background, captions spoken, cuts at known times."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from keyed import between, number
from numpy.typing import NDArray
from picture import Picture
from PIL import Image

WIDTH, HEIGHT, FPS, RATE_HZ = 320, 240, 25, 48_000
CODECS: dict[str, tuple[str, str, str]] = {
    "mp4": ("mp4", "libx264", "aac"),
    "webm": ("webm", "libvpx-vp9", "libopus"),
    "mkv": ("matroska", "libx264", "flac"),
    "mov": ("mov", "mjpeg", "pcm_s16le"),
    "ts": ("mpegts", "mpeg2video", "mp2"),
    "flv": ("flv", "libx264", "aac"),
    "avi": ("avi", "mpeg4", "libmp3lame"),
    "hevc": ("mp4", "libx265", "aac"),
}
"""Kind of file -> container, video codec, audio codec."""
_OPTIONS = {
    "libx264": {"preset": "ultrafast", "crf": "21", "threads": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "31", "b": "0"},
    "mpeg4": {"qscale": "4"},
    "mjpeg": {"qscale": "4"},
}
_KNOCK_S = 0.1


@dataclass(frozen=True)
class Shot:
    """One shot: a picture and its spoken caption, or (`knocks`) a picture that jumps, each time with a knock.

    sound: float32 [n] at 48 kHz, spoken at the shot's start. offset_s: how much later than its jump a knock is heard.
    """

    picture: Picture
    language: str
    seconds: float
    sound: NDArray[np.float32]
    offset_s: float | None = None

    @property
    def num_frames(self) -> int:
        return round(self.seconds * FPS)


@dataclass(frozen=True)
class Film:
    """Frames and sound of a film, and where its shots begin (frames)."""

    shots: tuple[Shot, ...]
    frames: list[NDArray[np.uint8]] = field(repr=False)
    pcm: NDArray[np.float32] = field(repr=False)

    @property
    def edges(self) -> list[int]:
        """Frames at which the shots begin, and the end."""
        return [0, *itertools.accumulate(shot.num_frames for shot in self.shots)]


def draw(shots: Sequence[Shot], *key: object) -> Film:
    """The film of these shots; `key` decides backgrounds and moves."""
    frames: list[NDArray[np.uint8]] = []
    sounds = []
    for place, shot in enumerate(shots):
        rng = np.random.default_rng(number(*key, "shot", place))
        hits = _hits(shot, rng)
        frames += _shot_frames(shot, hits, rng)
        sounds.append(_shot_sound(shot, hits, rng))
    return Film(tuple(shots), frames, np.concatenate(sounds).astype(np.float32))


def _hits(shot: Shot, rng: np.random.Generator) -> list[float]:
    if shot.offset_s is None:
        return []
    steps = np.cumsum(rng.uniform(0.35, 0.9, int(shot.seconds / 0.35)))
    return [float(at) for at in steps if 0.7 < at < shot.seconds - 0.7]


def _background(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blotches in shades of one colour, twice as wide as a frame."""
    small = rng.integers(0, 256, (HEIGHT // 24, WIDTH // 12, 3)).astype(np.uint8)
    smooth = cv2.resize(small, (2 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return (0.45 * smooth + 0.55 * rng.integers(0, 256, 3)).clip(0, 255).astype(np.uint8)


def _stamp(picture: Picture, side_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(RGB, opacity 0-1) of the picture, its longer side so long."""
    with Image.open(io.BytesIO(picture.data)) as image:
        rgba = image.convert("RGBA")
    scale = side_px / max(rgba.size)
    rgba = rgba.resize((max(2, round(rgba.width * scale)), max(2, round(rgba.height * scale))))
    array = np.asarray(rgba, dtype=np.float32)
    return array[..., :3], array[..., 3:] / 255


def _shot_frames(shot: Shot, hits: list[float], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    background, (stamp, opacity) = _background(rng), _stamp(shot.picture, 90 if hits else 180)
    height, width = stamp.shape[:2]
    room = np.array([HEIGHT - height, WIDTH - width])
    places = rng.uniform(0, 1, (len(hits) + 1, 2))
    frames = []
    for k in range(shot.num_frames):
        x = WIDTH - abs(WIDTH - (2 * k) % (2 * WIDTH))
        frame = background[:, x : x + WIDTH].astype(np.float32)
        done = sum(hit <= k / FPS for hit in hits)
        share = places[done] if hits else 0.5 + 0.3 * np.array([np.sin(k / 11), np.cos(k / 17)])
        top, left = (room * share).astype(int)
        under = frame[top : top + height, left : left + width]
        frame[top : top + height, left : left + width] = opacity * stamp + (1 - opacity) * under
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return frames


def _shot_sound(shot: Shot, hits: list[float], rng: np.random.Generator) -> NDArray[np.float32]:
    pcm = rng.normal(0, 0.003, round(shot.num_frames / FPS * RATE_HZ))
    spoken = shot.sound[: len(pcm)]
    pcm[: len(spoken)] += spoken
    times = np.arange(round(_KNOCK_S * RATE_HZ)) / RATE_HZ
    knock = 0.4 * np.exp(-times / 0.012) * np.sin(2 * np.pi * rng.uniform(400, 2000) * times)
    for hit in hits:
        start = round((hit + (shot.offset_s or 0.0)) * RATE_HZ)
        pcm[start : start + len(knock)] += knock
    return pcm.clip(-1, 1).astype(np.float32)


def trimmed(film: Film, head_s: float, tail_s: float, half_size: bool) -> Film:
    """A copy without its first and last seconds, perhaps at half the size."""
    first, last = round(head_s * FPS), len(film.frames) - round(tail_s * FPS)
    frames = film.frames[first:last]
    if half_size:
        frames = [cv2.resize(frame, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) for frame in frames]
    return Film(film.shots, frames, film.pcm[round(first / FPS * RATE_HZ) : round(last / FPS * RATE_HZ)])


def encode(film: Film, kind: str) -> bytes:
    """The film as a file of a kind of `CODECS`."""
    container, video_codec, audio_codec = CODECS[kind]
    sink = io.BytesIO()
    with av.open(sink, "w", format=container, container_options={"fflags": "+bitexact"}) as out:
        video = out.add_stream(video_codec, rate=FPS)
        video.height, video.width = film.frames[0].shape[:2]
        video.pix_fmt = "yuvj420p" if video_codec == "mjpeg" else "yuv420p"
        video.options = _OPTIONS.get(video_codec, {})
        if video_codec in ("mpeg4", "mpeg2video"):
            video.bit_rate = 2_000_000
        audio = out.add_stream(audio_codec, rate=RATE_HZ, layout="mono")
        packets = [*_video_packets(video, film.frames), *_audio_packets(audio, film.pcm)]
        for _, _, packet in sorted(packets, key=lambda each: each[:2]):
            out.mux(packet)
    return sink.getvalue()


def _video_packets(stream: Any, frames: Sequence[NDArray[np.uint8]]) -> list[tuple[float, int, Any]]:
    packets = []
    for k, pixels in enumerate([*frames, None]):
        frame = None
        if pixels is not None:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
        packets += [(float((p.dts or 0) * p.time_base), 0, p) for p in stream.encode(frame)]
    return packets


def _audio_packets(stream: Any, pcm: NDArray[np.float32]) -> list[tuple[float, int, Any]]:
    resampler = av.AudioResampler(stream.format.name, "mono", RATE_HZ)
    packets, at = [], 0
    for start in [*range(0, len(pcm), 1024), None]:
        made: list[Any] = [None]
        if start is not None:
            part = np.ascontiguousarray(pcm[None, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
            frame.sample_rate = RATE_HZ
            made = resampler.resample(frame)
        for each in made:
            if each is not None:
                each.pts, each.time_base = at, Fraction(1, RATE_HZ)
                at += each.samples
            packets += [(float((p.dts or 0) * p.time_base), 1, p) for p in stream.encode(each)]
    return packets


def tune(seconds: float, *key: object) -> NDArray[np.float32]:
    """Some notes, for pictures whose caption nobody has spoken: float32 [n] at 48 kHz."""
    out = np.zeros(round(seconds * RATE_HZ), np.float32)
    at = place = 0
    while at < len(out):
        length = round(between(0.15, 0.45, *key, "note", place) * RATE_HZ)
        times = np.arange(min(length, len(out) - at)) / RATE_HZ
        pitch = 130 * 2 ** (number(*key, "pitch", place) % 30 / 12)
        note = sum(np.sin(2 * np.pi * pitch * k * times) / k for k in (1, 2, 3))
        out[at : at + len(times)] = 0.15 * np.exp(-4 * times) * np.minimum(1, times / 0.01) * note
        at, place = at + length, place + 1
    return out
