"""The process in which untrusted bytes are decoded: reads a request, answers, and so on until its input closes.

Run as a file by `curation.media.decode`, never imported by it; imports the standard library and Pillow only, so that it
starts in some 50 ms. It gives up what it does not need before it reads the first byte: memory, files, core dumps.

Request:  header `<QIB` (number of bytes, short side in pixels or 0, 1 if pixels are wanted), then the bytes.
Answer:    header `<IQ` (length of a JSON object, number of pixel bytes), the JSON object, the pixels (H, W, 3, uint8).
          One empty answer at the start says that it is ready.
JSON keys: reason, detail, format, width_px, height_px, num_frames, has_alpha, out_width_px, out_height_px.
"""

import io
import json
import resource
import struct
import sys
import zlib
from typing import Any, BinaryIO

REQUEST = struct.Struct("<QIB")
ANSWER = struct.Struct("<IQ")
MAX_DETAIL_CHARS = 200

# First bytes -> Pillow's name. Anything else that is known to be a picture is named, so that it is refused by name.
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"8BPS", "PSD"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x02\x00", "CUR"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\xff\x0a", "JXL"),
    (b"\x00\x00\x00\x0cJXL ", "JXL"),
    (b"%!PS-Adobe", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"SIMPLE  =", "FITS"),
    (b"BLP1", "BLP"),
    (b"BLP2", "BLP"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "XCF"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIF", b"heix": "HEIF", b"hevc": "HEIF", b"mif1": "HEIF"}

# What Pillow's plugins raise on malformed files; anything else ends the process, which the parent reports as a crash of
# these bytes.
_MALFORMED: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)
_MALFORMED += (AttributeError, RuntimeError, ArithmeticError, AssertionError, struct.error, zlib.error)
_TRUNCATED_WORDS = ("truncated", "unexpected end", "not enough image data", "image file is incomplete", "cannot read")

_ORIENTATION_TAG = 0x0112  # EXIF 2.32, 4.6.4


class Refused(Exception):
    """The bytes are not decoded; carries the reason code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def sniff(data: bytes) -> str | None:
    """Name of the format by the first bytes; None for what is no picture (HTML, text, archives, video)."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    is_svg = head.startswith(b"<svg") or (head.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in head)
    return "SVG" if is_svg else None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) from a WebP's first chunk, before Pillow opens it: opening alone reserves two whole canvases."""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(data) >= 30:
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def gif_num_frames(data: bytes, max_frames: int) -> int:
    """Number of image blocks of a GIF, counted by walking its blocks without unpacking; stops at max_frames + 1."""
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    frames = 0
    while at < len(data) and data[at] != 0x3B and frames <= max_frames:
        if data[at] == 0x2C:
            frames += 1
            flags = data[at + 9] if at + 9 < len(data) else 0
            at += 10 + (3 << (flags & 7) + 1 if flags & 0x80 else 0) + 1
        elif data[at] == 0x21:
            at += 2
        else:
            break  # junk between blocks: what was counted so far is what a viewer shows
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return max(frames, 1)


def decode(data: bytes, short_side_px: int, want_pixels: bool, limits: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Answer to one request: the JSON object and the pixel bytes (empty where not wanted or refused)."""
    out: dict[str, Any] = {}
    try:
        return out, _decode(data, short_side_px, want_pixels, limits, out)
    except Refused as error:
        out.update(reason=error.reason, detail=str(error)[:MAX_DETAIL_CHARS])
    except MemoryError:
        out.update(reason="img.decoder_memory", detail=f"more than {limits['max_memory_bytes']} bytes")
    except _MALFORMED as error:
        # Pillow names the file object by its address in memory, which would differ in every run
        detail = f"{type(error).__name__}: {str(error).partition(' <_io.')[0]}"[:MAX_DETAIL_CHARS]
        out.update(reason=_why_malformed(data, out.get("format"), str(error)), detail=detail)
    return out, b""


def _decode(data: bytes, short_side_px: int, want_pixels: bool, limits: dict[str, Any], out: dict[str, Any]) -> bytes:
    from PIL import Image

    out["format"] = name = sniff(data)
    if name is None:
        raise Refused("img.not_image", f"starts with {data[:16]!r}")
    if name not in limits["formats"]:
        raise Refused("img.format_not_allowed", name)
    if name == "WEBP":
        _check_size(webp_size(data), limits, out)
    image = Image.open(io.BytesIO(data), formats=(name,))
    _check_size(image.size, limits, out)
    num_frames = gif_num_frames(data, limits["max_frames"]) if name == "GIF" else int(getattr(image, "n_frames", 1))
    out["num_frames"] = num_frames
    if num_frames > limits["max_frames"]:
        raise Refused("img.bomb_frames", f"more than {limits['max_frames']} frames")

    width, height = image.size
    scale = min(1.0, short_side_px / min(width, height)) if short_side_px else 1.0
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    if name == "JPEG":
        # libjpeg reads every coefficient at any scale, so damage shows at 1/8 too. Where pixels are wanted, at least
        # twice the target is decoded and the rest is left to the antialiased filter.
        if not want_pixels:
            image.draft(image.mode, (1, 1))
        elif scale < 0.5:
            image.draft(image.mode, (2 * target[0], 2 * target[1]))
    image.load()
    out["has_alpha"] = image.has_transparency_data
    orientation = _orientation(image)
    if orientation >= 5:  # 5-8 swap the sides
        out["width_px"], out["height_px"] = height, width
    if not want_pixels:
        return b""
    rgb = _flatten(image)
    if rgb.size != target:
        rgb = rgb.resize(target, Image.Resampling.HAMMING, reducing_gap=2.0)  # antialiased; see decode.py
    turn = _TURNS.get(orientation)
    if turn is not None:
        rgb = rgb.transpose(Image.Transpose(turn))
    out["out_width_px"], out["out_height_px"] = rgb.size
    pixels: bytes = rgb.tobytes()
    return pixels


def _check_size(size: tuple[int, int] | None, limits: dict[str, Any], out: dict[str, Any]) -> None:
    """Refuse by the header alone: pixels first, then the aspect ratio."""
    if size is None:
        return
    width, height = size
    out["width_px"], out["height_px"] = width, height
    if width < 1 or height < 1:
        raise Refused("img.corrupt", f"{width} x {height} pixels")
    if width * height > limits["max_pixels"]:
        raise Refused("img.bomb_pixels", f"{width} x {height} pixels, at most {limits['max_pixels']}")
    if min(width, height) < limits["min_side_px"]:
        raise Refused("img.too_small", f"{width} x {height} pixels, at least {limits['min_side_px']}")
    if max(width, height) > limits["max_aspect"] * min(width, height):
        raise Refused("img.aspect", f"{width} x {height} pixels, at most {limits['max_aspect']} to 1")


# EXIF orientation -> Image.Transpose: FLIP_LEFT_RIGHT 0, FLIP_TOP_BOTTOM 1, ROTATE_90 2 / 180 3 / 270 4, TRANSPOSE 5,
# TRANSVERSE 6 (Pillow's own values; the same table as ImageOps.exif_transpose).
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def _orientation(image: Any) -> int:
    """EXIF orientation, 1-8; 1 where there is none or the EXIF block is damaged (the picture itself is not)."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _MALFORMED:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _flatten(image: Any) -> Any:
    """RGB with transparency laid on white. 16-bit grey is scaled to 8 (Pillow's convert would clip it)."""
    from PIL import Image

    if image.mode.startswith("I"):
        return image.point(lambda value: value * (1 / 256) + 0).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    flat = Image.new("RGB", rgba.size, (255, 255, 255))
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat


def _why_malformed(data: bytes, name: str | None, message: str) -> str:
    words = message.lower()
    if "decompressed data too large" in words or "max_text" in words or "too large for" in words:
        return "img.bomb_bytes"
    if any(known in words for known in _TRUNCATED_WORDS):
        return "img.truncated"
    if name == "WEBP" and int.from_bytes(data[4:8], "little") + 8 > len(data):
        return "img.truncated"
    if name == "PNG" and b"IEND" not in data[-16:]:
        return "img.truncated"
    if name == "JPEG" and b"\xff\xd9" not in data[-64:] and b"\xff\xda" not in data:
        return "img.truncated"
    return "img.corrupt"


def give_up_rights(limits: dict[str, Any]) -> None:
    """Limit this process for good. Called after the codecs are loaded, before the first untrusted byte is read."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    if sys.platform != "darwin":
        # macOS accepts RLIMIT_AS and does not enforce it; there the pixel and frame limits, the checks before any
        # decode and the parent's clock are what is left.
        resource.setrlimit(resource.RLIMIT_AS, (limits["max_memory_bytes"], limits["max_memory_bytes"]))


def refresh_cpu_limit(timeout_s: float) -> None:
    """Let this request have `timeout_s` of CPU time. The parent's clock comes first; this holds if it is gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + timeout_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def load_codecs() -> None:
    """Import the four plugins now, so that nothing needs to be opened later."""
    from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked on every header, before Pillow's
    for plugin in (GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin):
        assert plugin.__name__
    Image.preinit()
    with io.BytesIO() as warm_up:  # loads the C side of the encoders and decoders too
        Image.new("RGB", (2, 2)).save(warm_up, "WEBP")
        Image.open(io.BytesIO(warm_up.getvalue())).load()


def serve(source: BinaryIO, sink: BinaryIO, limits: dict[str, Any]) -> None:
    """Say that it is ready (an empty answer), then answer requests until the input ends."""
    sink.write(ANSWER.pack(0, 0))
    sink.flush()
    while header := source.read(REQUEST.size):
        if len(header) < REQUEST.size:
            return
        num_bytes, short_side_px, want_pixels = REQUEST.unpack(header)
        data = source.read(num_bytes)
        if len(data) < num_bytes:
            return
        refresh_cpu_limit(limits["timeout_s"])
        answer, pixels = decode(data, short_side_px, bool(want_pixels), limits)
        encoded = json.dumps(answer).encode()
        sink.write(ANSWER.pack(len(encoded), len(pixels)) + encoded)
        sink.write(pixels)
        sink.flush()


def main() -> None:
    """`decode_child.py FOLDER_OF_PILLOW LIMITS_AS_JSON`, requests on stdin, answers on stdout."""
    sys.path.append(sys.argv[1])
    limits = json.loads(sys.argv[2])
    load_codecs()
    give_up_rights(limits)
    serve(sys.stdin.buffer, sys.stdout.buffer, limits)


if __name__ == "__main__":
    main()
