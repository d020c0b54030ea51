"""Made media for the tests: drawn pictures and computed tones, muxed with PyAV, so that the truth is known."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

RATE_HZ = 48_000
FPS = 25

CODECS: dict[str, tuple[str, str | None, str | None]] = {
    "mp4": ("mp4", "libx264", "aac"),
    "mp4_hevc": ("mp4", "libx265", "aac"),
    "mkv": ("matroska", "libx264", "flac"),
    "webm": ("webm", "libvpx-vp9", "libopus"),
    "webm_av1": ("webm", "libsvtav1", "libopus"),
    "avi": ("avi", "mpeg4", "libmp3lame"),
    "flv": ("flv", "libx264", "aac"),
    "ts": ("mpegts", "mpeg2video", "mp2"),
    "mov": ("mov", "mjpeg", "pcm_s16le"),
    "wav": ("wav", None, "pcm_s16le"),
    "flac": ("flac", None, "flac"),
    "mp3": ("mp3", None, "libmp3lame"),
    "ogg": ("ogg", None, "libopus"),
    "vorbis": ("ogg", None, "vorbis"),
    "aac": ("adts", None, "aac"),
}
"""Name -> container, video codec, audio codec."""


def scene(seed: int, width: int = 320, height: int = 240) -> np.ndarray:
    """A textured picture twice as wide as a frame, so that a camera can pan over it: uint8 (height, 2 width, 3)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 16, width // 8, 3)).astype(np.uint8)
    smooth = cv2.resize(small, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    tint = rng.integers(0, 256, 3)
    picture = (0.6 * smooth + 0.4 * tint).clip(0, 255).astype(np.uint8)
    for _ in range(12):
        center = (int(rng.integers(2 * width)), int(rng.integers(height)))
        color = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.circle(picture, center, int(rng.integers(6, 30)), color, -1)
    return picture


def pan(seed: int, num_frames: int, step_px: int = 2, width: int = 320, height: int = 240) -> list[np.ndarray]:
    """Frames of a camera that pans over a scene, and back where it ends."""
    picture = scene(seed, width, height)
    starts = [width - abs(width - (step_px * k) % (2 * width)) for k in range(num_frames)]
    return [np.ascontiguousarray(picture[:, x : x + width]) for x in starts]


def tone(seconds: float, hertz: float = 440.0, amplitude: float = 0.3, rate: int = RATE_HZ) -> np.ndarray:
    """float32 (n, 1)."""
    times = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hertz * times)).astype(np.float32)[:, None]


def music(seconds: float, seed: int, rate: int = RATE_HZ) -> np.ndarray:
    """Random notes with overtones, three at a time: float32 (n, 1). Different for each seed."""
    rng = np.random.default_rng(seed)
    out = np.zeros(round(seconds * rate))
    for voice in range(3):
        at = 0
        while at < len(out):
            length = int(rng.uniform(0.15, 0.5) * rate)
            pitch = 110 * 2 ** (rng.integers(0, 36) / 12)
            times = np.arange(min(length, len(out) - at)) / rate
            envelope = np.minimum(1, times / 0.01) * np.exp(-3 * times)
            note = sum(np.sin(2 * np.pi * pitch * k * times) / k for k in (1, 2, 3))
            out[at : at + len(times)] += 0.12 * envelope * note * (1 - 0.2 * voice)
            at += length
    return out.astype(np.float32)[:, None]


def write(
    frames: Sequence[np.ndarray] | None,
    pcm: np.ndarray | None,
    kind: str = "mp4",
    fps: float = FPS,
    rate: int = RATE_HZ,
    times: Sequence[float] | None = None,
    rotation_deg: int = 0,
    audio_start_s: float = 0.0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> bytes:
    """One medium. times: time stamps of the frames (a variable frame rate); rotation_deg: a display matrix."""
    # On a thread of its own: for root, SVT-AV1 gives the thread that calls it real-time priority 99 (SCHED_FIFO), which
    # all that this thread starts later inherits. Of the main thread: every later test, server and worker.
    given = (frames, pcm, kind, fps, rate, times, rotation_deg, audio_start_s, options, container_options)
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(_write, *given).result()


def _write(
    frames: Sequence[np.ndarray] | None,
    pcm: np.ndarray | None,
    kind: str,
    fps: float,
    rate: int,
    times: Sequence[float] | None,
    rotation_deg: int,
    audio_start_s: float,
    options: dict[str, str] | None,
    container_options: dict[str, str] | None,
) -> bytes:
    container, video_codec, audio_codec = CODECS[kind]
    if audio_codec == "vorbis" and pcm is not None and pcm.shape[1] == 1:
        pcm = np.repeat(pcm, 2, axis=1)  # all that FFmpeg's encoder takes
    sink = io.BytesIO()
    with av.open(sink, "w", format=container, container_options=container_options or {}) as out:
        video = _video_stream(out, video_codec, frames, fps, options, rotation_deg) if frames is not None else None
        audio = _audio_stream(out, audio_codec, pcm, rate) if pcm is not None else None
        packets: list[tuple[float, int, Any]] = []
        if video is not None and frames is not None:
            packets += _video_packets(video, frames, fps, times)
        if audio is not None and pcm is not None:
            packets += _audio_packets(audio, pcm, rate, audio_start_s)
        for _, _, packet in sorted(packets, key=lambda each: each[:2]):
            out.mux(packet)
    return sink.getvalue()


def _video_stream(
    out: Any, codec: str | None, frames: Sequence[np.ndarray], fps: float, options: Any, rotation_deg: int
) -> Any:
    stream = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    fast = {
        "libx264": {"preset": "ultrafast", "crf": "20", "threads": "1"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"},
        "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
        "mpeg4": {"qscale": "4"},
        "mjpeg": {"qscale": "4"},
    }
    stream.options = {**fast.get(codec or "", {}), **(options or {})}
    if codec in ("mpeg4", "mpeg2video"):
        stream.bit_rate = 2_000_000
    if rotation_deg:
        stream.set_display_rotation(rotation_deg)
    return stream


def _audio_stream(out: Any, codec: str | None, pcm: np.ndarray, rate: int) -> Any:
    options = {"strict": "-2"} if codec == "vorbis" else {}  # FFmpeg's own encoder, which it calls experimental
    return out.add_stream(codec, rate=rate, layout="mono" if pcm.shape[1] == 1 else "stereo", options=options)


def _video_packets(stream: Any, frames: Sequence[np.ndarray], fps: float, times: Sequence[float] | None) -> Any:
    base = Fraction(1, 90_000)
    if times is not None:
        stream.codec_context.time_base = base
    packets = []
    for number, pixels in enumerate([*frames, None]):
        frame = None
        if pixels is not None:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] / base), base
            else:
                frame.pts, frame.time_base = number, 1 / Fraction(fps).limit_denominator(1001)
        for packet in stream.encode(frame):
            packets.append((float((packet.dts or 0) * packet.time_base), 0, packet))
    return packets


def _audio_packets(stream: Any, pcm: np.ndarray, rate: int, start_s: float) -> Any:
    layout = "mono" if pcm.shape[1] == 1 else "stereo"
    resampler = av.AudioResampler(stream.format.name, layout, rate)
    packets, at = [], round(start_s * rate)
    for first in [*range(0, len(pcm), 1024), None]:
        made: list[Any] = [None]
        if first is not None:
            part = np.ascontiguousarray(pcm[first : first + 1024].reshape(1, -1).astype(np.float32))
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            frame.sample_rate = rate
            made = resampler.resample(frame)
        for each in made:
            if each is not None:
                each.pts, each.time_base = at, Fraction(1, rate)
                at += each.samples
            for packet in stream.encode(each):
                packets.append((float((packet.dts or 0) * packet.time_base), 1, packet))
    return packets


def small(kind: str = "mp4", seconds: float = 2.0, seed: int = 0) -> bytes:
    """A small medium of each kind: a pan and music."""
    has_video = CODECS[kind][1] is not None
    return write(
        pan(seed, round(seconds * FPS), width=160, height=120) if has_video else None, music(seconds, seed), kind
    )


def mutants(seeds: Sequence[bytes], num: int, seed: int) -> Iterator[bytes]:
    """Seeded damage: cut off the end 25 %, overwrite 1-32 bytes 35 %, cut some out 15 %, copy a run elsewhere 15 %,
    overwrite four bytes with an extreme number 10 %; half of it in the first or last 2 kB, where the headers are."""
    rng = random.Random(seed)

    def place(size: int) -> int:
        draw = rng.random()
        if draw < 0.25:
            return rng.randrange(min(size, 2048))
        return size - 1 - rng.randrange(min(size, 2048)) if draw < 0.5 else rng.randrange(size)

    for _ in range(num):
        data = bytearray(rng.choice(list(seeds)))
        draw, at = rng.random(), place(len(data))
        if draw < 0.25:
            del data[rng.randrange(len(data)) :]
        elif draw < 0.60:
            for _ in range(rng.randint(1, 32)):
                data[place(len(data))] = rng.randrange(256)
        elif draw < 0.75:
            del data[at : at + rng.randint(1, 64)]
        elif draw < 0.90:
            run = data[at : at + rng.randint(1, 64)]
            there = rng.randrange(len(data))
            data[there:there] = run
        else:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"])
        yield bytes(data)
