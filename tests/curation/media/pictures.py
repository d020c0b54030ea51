"""Pictures for the decoder's tests: valid ones in each format, bombs, poison, and seeded mutants of the valid ones."""

import base64
import io
import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

# Two files of which other decoders die: 69 bytes that cost opencv 4.1 GB (an IDAT length of 0xffffffff), and 104 bytes
# that end a process decoding them with torchvision 0.29.1.
POISON = [
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFX/////0lEQVR4nGNgoA4AAABIAAEuuDx+AAAAAElFTkSuQmCC",
    ),
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAFAAAABACAAAAACorK/qAAAAL0lEQVR4nO3MMQ0AAAgDMIZ/0ZhYwtMKaCZdO2VCoVAoFAqFQqFQKIAAAACh8Cs8"
        "V/4AzxrX+1sAAAAASUVORK5CYII="
    ),
]


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture with some noise, so that every format has something to code."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=-1)
    return Image.fromarray((base + rng.integers(-8, 8, base.shape)).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, packed: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@cache
def one_bit_bomb(side: int) -> bytes:
    """A valid one-bit PNG of side x side pixels in some kilobytes."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (side + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(side))
    return png(side, side, 1, 0, packed + packer.flush())


def many_frames_gif(num_frames: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x80, 0, 0) + b"\xff\xff\xff\0\0\0"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 4, 4, 0) + b"\x02\x03\x84\x8f\x05\0"
    return head + frame * num_frames + b";"


@cache
def valid() -> dict[str, bytes]:
    """Eleven small encodings, one of each kind that the allow list lets in."""
    rgb = photo(48, 36)
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(rgb.size))
    frames = [photo(20, 20, seed) for seed in range(3)]
    return {
        "png_rgb": encode(rgb, "PNG"),
        "png_l": encode(rgb.convert("L"), "PNG"),
        "png_p": encode(rgb.quantize(16), "PNG"),
        "png_rgba": encode(rgba, "PNG"),
        "jpeg": encode(rgb, "JPEG"),
        "jpeg_progressive": encode(rgb, "JPEG", progressive=True),
        "jpeg_grey": encode(rgb.convert("L"), "JPEG"),
        "webp": encode(rgb, "WEBP"),
        "webp_lossless": encode(rgba, "WEBP", lossless=True),
        "gif": encode(rgb.quantize(64), "GIF"),
        "gif_animated": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    }


def mutants(num: int, seed: int) -> Iterator[bytes]:
    """Seeded damage: cut off the end 25 %, overwrite 1-32 bytes 35 %, cut some out 15 %, copy a run elsewhere 15 %,
    overwrite four bytes with an extreme number 10 %."""
    rng = random.Random(seed)
    seeds = list(valid().values())
    for _ in range(num):
        data = bytearray(rng.choice(seeds))
        draw, at = rng.random(), rng.randrange(len(data))
        if draw < 0.25:
            del data[at:]
        elif draw < 0.60:
            for _ in range(rng.randint(1, 32)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif draw < 0.75:
            del data[at : at + rng.randint(1, 64)]
        elif draw < 0.90:
            run = data[at : at + rng.randint(1, 64)]
            there = rng.randrange(len(data))
            data[there:there] = run
        else:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"])
        yield bytes(data)
