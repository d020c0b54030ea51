"""The process in which untrusted bytes are decoded: reads a request, answers, and so on until its input closes.

Run as a file by `curation.media.decode`, never imported by it; imports the standard library and Pillow only, so that
it starts in some 50 ms (0.2 s where pictures are to be resized: numpy, OpenCV and simplejpeg). `lockdown_child` says
what it gives up before it reads the first byte, `serve_child` what it is asked and answers.
"""

import functools
import gc
import importlib.util
import io
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

MAX_DETAIL_CHARS = 200
BUFFER_BYTES = 1 << 17  # of each pipe: most pictures come, and most answers go, with one system call

# What Pillow's plugins raise on malformed files; anything else ends the process, which the parent reports as a crash of
# these bytes.
_MALFORMED: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)
_MALFORMED += (AttributeError, RuntimeError, ArithmeticError, AssertionError, struct.error, zlib.error)

_ORIENTATION_TAG = 0x0112  # EXIF 2.32, 4.6.4
_MAX_EXIF_BYTES = 65_533  # a JPEG segment
_GREY = ("1", "L", "I;16", "I;16B", "I;16L", "I")


def _neighbour(name: str) -> Any:
    """A module of this folder; its package is not importable here."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_NAMES = (
    "header_child",
    "output_child",
    "metadata_child",
    "views_child",
    "blur_child",
    "serve_child",
    "lockdown_child",
)
header, making, metadata, views, blurring, serving, lockdown = map(_neighbour, _NAMES)


class Refused(Exception):
    """The bytes are not decoded; carries the reason code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def decode(data: bytes, asked: Any, wanted: int, room: Any, limits: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Answer to one request: the JSON object and the bytes or arrays behind it (none where not wanted or refused).
    asked: the short side in pixels, or JSON. room: see `views.answer`."""
    out: dict[str, Any] = {}
    try:
        if wanted == serving.STORED:
            return out, [_stored(data, limits, out)]
        if wanted == serving.VIEWS:
            return out, _views(data, json.loads(asked), room, limits, out)
        if wanted == serving.BLURRED:
            return out, [_blurred(data, json.loads(asked), limits, out)]
        return out, [_decode(data, asked, wanted == serving.PIXELS, limits, out)]
    except Refused as error:
        out.update(reason=error.reason, detail=str(error)[:MAX_DETAIL_CHARS])
    except MemoryError:
        out.update(reason="img.decoder_memory", detail=f"more than {limits['max_memory_bytes']} bytes")
    except _MALFORMED as error:
        # Pillow names the file object by its address in memory, which would differ in every run
        detail = f"{type(error).__name__}: {str(error).partition(' <_io.')[0]}"[:MAX_DETAIL_CHARS]
        out.update(reason=header.why_malformed(data, out.get("format"), str(error)), detail=detail)
    return out, []


def _open(data: bytes, limits: dict[str, Any], out: dict[str, Any]) -> Any:
    """Pillow's image after every check that needs no decoding. Errors: Refused."""
    from PIL import Image

    out["format"] = name = header.sniff(data)
    if name is None:
        raise Refused("img.not_image", f"starts with {data[:16]!r}")
    if name not in limits["formats"]:
        raise Refused("img.format_not_allowed", name)
    if name == "WEBP":
        _check_size(header.webp_size(data), limits, out)
    image = Image.open(io.BytesIO(data), formats=(name,))
    _check_size(image.size, limits, out)
    num_frames = (
        header.gif_num_frames(data, limits["max_frames"]) if name == "GIF" else int(getattr(image, "n_frames", 1))
    )
    out["num_frames"] = num_frames
    if num_frames > limits["max_frames"]:
        raise Refused("img.bomb_frames", f"more than {limits['max_frames']} frames")
    return image


def _decode(data: bytes, short_side_px: int, want_pixels: bool, limits: dict[str, Any], out: dict[str, Any]) -> bytes:
    from PIL import Image

    image = _open(data, limits, out)
    width, height = image.size
    scale = min(1.0, short_side_px / min(width, height)) if short_side_px else 1.0
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    if out["format"] == "JPEG":
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
    rgb = making.flatten(image)
    if rgb.size != target:
        rgb = rgb.resize(target, Image.Resampling.HAMMING, reducing_gap=2.0)  # antialiased; see decode.py
    pixels: bytes = _upright(rgb, orientation, out).tobytes()
    return pixels


def _views(data: bytes, asked: list[Any], room: Any, limits: dict[str, Any], out: dict[str, Any]) -> list[Any]:
    plain = _plain_source(data, limits, out)
    if plain is not None:
        arrays: list[Any] = views.answer(plain, asked, 1, making, out, room)
        out["has_alpha"] = False
        return arrays
    image = _open(data, limits, out)
    orientation = _orientation(image)
    arrays = views.answer(_source(data, image), asked, orientation, making, out)
    out["has_alpha"] = out["format"] != "JPEG" and image.has_transparency_data
    if orientation >= 5:
        out["width_px"], out["height_px"] = image.size[1], image.size[0]
    return list(arrays)


def _source(data: bytes, image: Any) -> Any:
    is_plain_jpeg = image.format == "JPEG" and image.mode in ("L", "RGB")
    return views.Source(data, image.size, is_plain_jpeg, lambda: image, making)


def _plain_source(data: bytes, limits: dict[str, Any], out: dict[str, Any]) -> Any | None:
    """Of a JPEG of which Pillow could say no more than its segments do (see `_plain`); None of others."""
    found = header.plain_jpeg(data) if "JPEG" in limits["formats"] else None
    if found is None:
        return None
    out["format"] = "JPEG"
    _check_size(found[0], limits, out)
    out["num_frames"] = 1

    def opened() -> Any:
        out.clear()
        return _open(data, limits, out)

    return views.Source(data, found[0], True, opened, making)


def _blurred(data: bytes, asked: dict[str, Any], limits: dict[str, Any], out: dict[str, Any]) -> bytes:
    image = _open(data, limits, out)
    source = _source(data, image)
    return bytes(blurring.answer(source.view(max(image.size), True), _orientation(image), asked, making, out))


def _upright(image: Any, orientation: int, out: dict[str, Any]) -> Any:
    from PIL import Image

    way = _TURNS.get(orientation)
    if way is not None:
        image = image.transpose(Image.Transpose(way))
    out["out_width_px"], out["out_height_px"] = image.size
    return image


def _stored(data: bytes, limits: dict[str, Any], out: dict[str, Any]) -> bytes:
    """The picture as the recipe wants it stored; empty where that is the bytes as they came."""
    output = limits["output"]
    plain = _plain(data, limits, out)
    if plain is not None:
        return plain
    image = _open(data, limits, out)
    size, name = image.size, out["format"]
    unwanted = making.objection(size, out["num_frames"], output)
    if unwanted is not None:
        raise Refused(*unwanted)
    orientation = _orientation(image)
    if orientation >= 5:
        out["width_px"], out["height_px"] = size[1], size[0]
    if name == "JPEG":
        out["has_alpha"] = False
        if making.must_encode(name, size, True, output):
            return _encoded(data, image, orientation, output, out)
        image.draft(image.mode, (1, 1))
    image.load()
    out["has_alpha"] = image.has_transparency_data
    if making.must_encode(name, size, not out["has_alpha"] and out["num_frames"] == 1, output):
        return _encoded(data, image, orientation, output, out)
    out["out_format"], out["out_width_px"], out["out_height_px"] = name, out["width_px"], out["height_px"]
    if output["keep_gps"] or not metadata.has_metadata(data, name):
        return b""
    try:
        return bytes(metadata.replaced(data, name, making.exif_of(image, orientation, output)))
    except _MALFORMED:
        fresh = _open(data, limits, out)  # JPEG: the other one is loaded at 1/8
        return _plainly_encoded(fresh, orientation, output, out)


def _plain(data: bytes, limits: dict[str, Any], out: dict[str, Any]) -> bytes | None:
    """As `_stored`, of the many JPEGs that have to be encoded anew and of which Pillow could say no more than their
    segments do; None of others. Pillow takes a tenth of a millisecond to read a header."""
    output, found = limits["output"], header.plain_jpeg(data)
    if found is None or not making.has_arrays() or "JPEG" not in limits["formats"]:
        return None
    size, is_grey = found
    if not making.must_encode("JPEG", size, True, output):
        return None
    out["format"] = "JPEG"
    _check_size(size, limits, out)
    out["num_frames"] = 1
    unwanted = making.objection(size, 1, output)
    if unwanted is not None:
        raise Refused(*unwanted)
    resized, canvas = making.fit(size, output)
    pixels = making.scaled_jpeg(data, size, resized, is_grey)
    if pixels is None:
        out.clear()
        return None
    out["has_alpha"] = False
    return bytes(making.finished(pixels, resized, canvas, True, 1, b"", output, out))


def _encoded(data: bytes, image: Any, orientation: int, output: dict[str, Any], out: dict[str, Any]) -> bytes:
    """Decoded, flattened, resized, turned upright, cut or framed, and encoded."""
    if not making.has_arrays():
        return _plainly_encoded(image, orientation, output, out)
    resized, canvas = making.fit(image.size, output)
    is_grey, pixels = image.mode in _GREY and not (image.mode == "L" and "transparency" in image.info), None
    if out["format"] == "JPEG" and image.mode in ("L", "RGB"):
        pixels = making.scaled_jpeg(data, image.size, resized, is_grey)
    was_scaled = pixels is not None
    if pixels is None:
        image.load()
        pixels = making.pixels_of(making.flatten(image), is_grey)
    exif = _exif(image, output)
    return bytes(making.finished(pixels, resized, canvas, was_scaled, orientation, exif, output, out))


def _plainly_encoded(image: Any, orientation: int, output: dict[str, Any], out: dict[str, Any]) -> bytes:
    """As `_encoded` at full size, by Pillow alone."""
    image.load()
    upright = _upright(making.flatten(image), orientation, out)
    format = making.format_wanted(out["format"], output)
    out["out_format"] = making.FORMATS[format]
    encoded: bytes = making.save(upright, format, output["quality"], _exif(image, output))
    return encoded


def _exif(image: Any, output: dict[str, Any]) -> bytes:
    """EXIF for a picture that is encoded upright; none where the block is damaged."""
    if not (output["keep_exif"] or output["keep_gps"]):
        return b""
    try:
        block: bytes = making.exif_of(image, 1, output)
    except _MALFORMED:
        return b""
    return block if len(block) <= _MAX_EXIF_BYTES else b""


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


def load_codecs(with_arrays: bool) -> None:
    """Import the four plugins (and OpenCV) now, so that nothing needs to be opened later."""
    from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    assert all((GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin))
    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked on every header, before Pillow's
    Image.preinit()
    with io.BytesIO() as warm_up:  # loads the C side of the encoders and decoders too
        Image.new("RGB", (2, 2)).save(warm_up, "WEBP")
        Image.open(io.BytesIO(warm_up.getvalue())).load()
    if with_arrays:
        import cv2
        import simplejpeg

        assert simplejpeg.__name__
        cv2.setNumThreads(1)
        making.encode(making.resize(making.pixels_of(Image.new("RGB", (4, 4)), False), (2, 2), False), "webp", 80, b"")


def main() -> None:
    """`decode_child.py FOLDERS LIMITS` (both JSON; of the packages, of `DecodeLimits` and under `output` of
    `ImageOutput`), requests on stdin, answers on stdout."""
    sys.path.extend(json.loads(sys.argv[1]))
    limits = json.loads(sys.argv[2])
    gc.disable()
    load_codecs(limits["with_arrays"])
    gc.freeze()  # modules stay; to look through them again and again costs more than a header
    gc.enable()
    shared = serving.Shared(*limits["shared"]) if limits["shared"] is not None else None
    lockdown.limit_resources(limits["max_memory_bytes"])

    answer = functools.partial(decode, limits=limits)
    begin = functools.partial(lockdown.refresh_cpu_limit, limits["timeout_s"])
    with open(0, "rb", BUFFER_BYTES, closefd=False) as source, open(1, "wb", BUFFER_BYTES, closefd=False) as sink:
        serving.serve(source, sink, shared, answer, begin)


if __name__ == "__main__":
    main()
