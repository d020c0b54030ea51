"""Malformed media: seeded damage to many containers and codecs, and bombs that are built on purpose.

`SEEDS` is the dear part (encoding), some seconds; `corpus` then makes thousands of bodies from it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np

from tests.curation.av import media

MORE_CODECS: dict[str, tuple[str, str | None, str | None]] = {
    "m4a": ("ipod", None, "aac"),
    "m4a_alac": ("ipod", None, "alac"),
    "webm_vp8": ("webm", "libvpx", "libopus"),
    "mkv_ffv1": ("matroska", "ffv1", "flac"),
    "avi_mjpeg": ("avi", "mjpeg", "pcm_s16le"),
    "asf": ("asf", "wmv2", "libmp3lame"),
    "mpeg": ("mpeg", "mpeg1video", "mp2"),
    "ogg_flac": ("ogg", None, "flac"),
    "wav_float": ("wav", None, "pcm_f32le"),
    "mka_ac3": ("matroska", None, "ac3"),
}
"""Beside those of `media.CODECS`: name -> container, video codec, audio codec."""
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}  # MP4 as streams have it


@dataclass(frozen=True)
class Malformed:
    """kind: of damage. body: the bytes. must_fail: whether no segment may come of it, whatever the policy."""

    kind: str
    body: bytes
    must_fail: bool = False


@lru_cache(maxsize=1)
def seeds() -> dict[str, bytes]:
    """One small medium of each kind, 1.5 s: nine containers with video, seven with sound alone."""
    found = {name: media.small(name, 1.5, k) for k, name in enumerate(media.CODECS)}
    before = dict(media.CODECS)
    media.CODECS.update(MORE_CODECS)
    try:
        found |= {name: media.small(name, 1.5, 50 + k) for k, name in enumerate(MORE_CODECS)}
        pan = media.pan(90, 38, width=160, height=120)
        found["mp4_fragmented"] = media.write(pan, media.music(1.5, 90), "mp4", container_options=FRAGMENTED)
    finally:
        for name in MORE_CODECS.keys() - before.keys():
            del media.CODECS[name]
    return found


def corpus(num: int, seed: int, dear: bool = True) -> Iterator[Malformed]:
    """`num` bodies: all bombs and wrong headers once, then truncations, then seeded damage. dear: with those bombs that
    take seconds to make."""
    bombs = {name: bomb for name, bomb in BOMBS.items() if dear or name not in DEAR}
    made = [Malformed(name, make(), must_fail) for name, (make, must_fail) in bombs.items()]
    made += list(_wrong_headers()) + list(_truncated())
    yield from made[:num]
    left = max(0, num - len(made))
    yield from (Malformed("mutated", body) for body in media.mutants(list(seeds().values()), left, seed))


def _wrong_headers() -> Iterator[Malformed]:
    """The first bytes of one container before the rest of another, and media that claim to be something else."""
    names = ["mp4", "mkv", "avi", "ts", "ogg", "flac", "wav", "mp3", "asf", "flv"]
    for k, name in enumerate(names):
        other = names[(k + 3) % len(names)]
        yield Malformed("wrong header", seeds()[name][:64] + seeds()[other][64:])
    yield Malformed("no medium", b"GIF89a" + seeds()["mp4"][6:], True)
    yield Malformed("no medium", _gif(), True)
    yield Malformed("no medium", b"<!doctype html><title>404</title>", True)
    yield Malformed("no medium", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n", True)


def _truncated() -> Iterator[Malformed]:
    """Every kind, cut off at its head, in its middle and before its last bytes."""
    for body in seeds().values():
        for share in (0.02, 0.3, 0.7, 0.97):
            yield Malformed("truncated", body[: int(share * len(body))])


def _gif() -> bytes:
    sink = io.BytesIO()
    with av.open(sink, "w", format="gif") as out:
        stream = out.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb8"
        for number in range(5):
            picture = np.full((32, 32, 3), 40 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="rgb8")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return sink.getvalue()


def raw(codec: str, container: str, width: int, height: int, num_frames: int, kind: str = "gray") -> bytes:
    """Black frames of any size."""
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, kind
        frame = av.VideoFrame.from_ndarray(np.zeros((height, width), np.uint8), format="gray").reformat(format=kind)
        for number in range(num_frames):
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return sink.getvalue()


def one_pixel_wide(width: int, height: int) -> bytes:
    """Frames of two by 100,000 pixels, of which Matroska's header says that they are one by 100,000 (PixelWidth B0,
    PixelHeight BA; RFC 9559, 5.1.4.1.28)."""
    body = raw("ffv1", "matroska", width, height, 3)
    return body.replace(b"\xb0\x81\x02", b"\xb0\x81\x01").replace(b"\xba\x81\x02", b"\xba\x81\x01")


def size_that_lies(width: int, height: int) -> bytes:
    """An MP4 whose sample entry claims a size that its frames do not have (ISO/IEC 14496-12, 12.1.3)."""
    data = bytearray(seeds()["mp4"])
    at = data.find(b"avc1", data.find(b"stsd"))
    data[at + 28 : at + 32] = struct.pack(">HH", width, height)
    return bytes(data)


def hour_long_frames() -> bytes:
    """Three frames, of which the first is shown for an hour."""
    return media.write(media.pan(0, 3, width=160, height=120), None, "mp4", times=[0.0, 3600.0, 3600.04])


def single_frame_of_five_hours() -> bytes:
    return media.write(media.pan(0, 2, width=160, height=120), None, "mkv", times=[0.0, 5 * 3600.0])


def silence_of_hours(hours: float) -> bytes:
    """Digital silence in FLAC: a thousandth of its size."""
    return media.write(None, np.zeros((round(8000 * 3600 * hours), 1), np.float32), "flac", rate=8000)


def claims_a_year() -> bytes:
    data = bytearray(seeds()["flac"])
    data[21:26] = bytes([data[21] | 0x0F]) + b"\xff" * 4  # STREAMINFO: 2^36 samples (RFC 9639, 8.2)
    return bytes(data)


def _wav(channels: int, rate: int, claimed: int, width: int = 16) -> bytes:
    block = channels * width // 8
    head = struct.pack("<HHIIHH", 1, channels & 0xFFFF, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, width)
    return b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + head + b"data" + struct.pack("<I", claimed) + bytes(64_000)


def many_streams() -> bytes:
    sink = io.BytesIO()
    with av.open(sink, "w", format="matroska") as out:
        streams = [out.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(60)]
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        for stream in streams:
            samples.sample_rate, samples.pts, samples.time_base = 8000, 0, Fraction(1, 8000)
            out.mux(stream.encode(samples))
    return sink.getvalue()


def number_of_samples_that_lies() -> bytes:
    """An MP4 whose table of sample sizes claims 2^32 - 1 entries."""
    data = bytearray(seeds()["mp4"])
    at = data.find(b"stsz")
    data[at + 12 : at + 16] = b"\xff\xff\xff\xff"
    return bytes(data)


def boxes_in_boxes() -> bytes:
    """MP4 boxes nested 20,000 deep."""
    depth = 20_000
    nested = b"".join(struct.pack(">I4s", 8 * (depth - k), b"moov") for k in range(depth))
    return seeds()["mp4"][:32] + nested


BOMBS: dict[str, tuple[Callable[[], bytes], bool]] = {
    "1 x 100000 pixels": (lambda: one_pixel_wide(2, 100_000), True),
    "100000 x 1 pixels": (lambda: one_pixel_wide(100_000, 2), True),
    "2 x 100000 pixels": (lambda: raw("ffv1", "matroska", 2, 100_000, 3), True),
    "100000 x 2 pixels": (lambda: raw("ffv1", "matroska", 100_000, 2, 3), True),
    "6000 x 5000 pixels": (lambda: raw("ffv1", "matroska", 6000, 5000, 1), True),
    "size of 65535 x 65535 claimed": (lambda: size_that_lies(65_535, 65_535), False),
    "size of 1 x 65535 claimed": (lambda: size_that_lies(1, 65_535), False),
    "size of 0 x 0 claimed": (lambda: size_that_lies(0, 0), False),
    "a frame for an hour": (hour_long_frames, False),
    "a frame for five hours": (single_frame_of_five_hours, True),
    "silence of five hours": (lambda: silence_of_hours(5), True),
    "samples of a year claimed": (claims_a_year, True),
    "4 GHz": (lambda: _wav(1, 0xFFFFFFF0, 64_000), True),
    "60000 channels": (lambda: _wav(60_000, 48_000, 64_000), True),
    "0 Hz": (lambda: _wav(1, 0, 64_000), True),
    "4 GB of samples claimed": (lambda: _wav(2, 48_000, 0xFFFFFFFF), False),
    "60 streams": (many_streams, True),
    "2^32 frames claimed": (number_of_samples_that_lies, False),
    "boxes in boxes": (boxes_in_boxes, True),
    "one byte": (lambda: b"\0", True),
    "zeros": (lambda: bytes(50_000), True),
}
"""Name -> what makes it, and whether it must fail."""
DEAR = ("silence of five hours", "6000 x 5000 pixels")
