"""The part of the decoder's process that makes stored pictures: fit, scaled JPEG decoding, resize, encode.

Loaded as a file by `decode_child.py`; the standard library, Pillow, and where a picture may be resized numpy, OpenCV
and simplejpeg. OpenCV is given pixels only (its decoders have no limits), simplejpeg JPEGs whose header was checked.
`output` is a dump of `curation.media.image_output.ImageOutput`.
"""

import io
import sys
from typing import Any

Size = tuple[int, int]  # width, height

MIN_DCT_MARGIN = 1.5  # a JPEG is decoded at the smallest of 1/1 .. 1/8 that keeps this many times the target
FAST_FROM = 1.5  # from this factor on the faster DCT and chroma without a filter do: several pixels become one anyway
HALVE_FROM = 2.2  # from this factor on bilinear resizing would leave too many pixels out: half the size first
PNG_COMPRESSION = 6
NAMES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "png"}
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
ORIENTATION, GPS_IFD, MAKER_NOTE, EXIF_IFD = 0x0112, 0x8825, 0x927C, 0x8769


def objection(size: Size, num_frames: int, output: dict[str, Any]) -> tuple[str, str] | None:
    """Reason and detail if the recipe does not want it, in img2dataset's order."""
    width, height = size
    if min(size) < output["min_image_size"]:
        return "img.too_small", f"{width} x {height} pixels, at least {output['min_image_size']}"
    if output["max_image_area"] is not None and width * height > output["max_image_area"]:
        return "img.too_large", f"{width} x {height} pixels, at most {output['max_image_area']}"
    if output["max_aspect_ratio"] is not None and max(size) > output["max_aspect_ratio"] * min(size):
        return "img.aspect", f"{width} x {height} pixels, at most {output['max_aspect_ratio']:g} to 1"
    if num_frames > 1 and output["animated"] == "refuse":
        return "img.animated", f"{num_frames} frames"
    return None


def fit(size: Size, output: dict[str, Any]) -> tuple[Size, Size]:
    """Size after resizing, and of the canvas that is then cut out of it or laid under it."""
    mode, side = output["resize_mode"], output["image_size"]
    if mode == "no":
        return size, size
    measured = min(size) if mode in ("keep_ratio", "center_crop") else max(size)
    if output["resize_only_if_bigger"] and measured <= side:
        return size, size
    scale = side / measured
    resized = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return resized, (side, side) if mode in ("center_crop", "border") else resized


def format_wanted(name: str, output: dict[str, Any]) -> str:
    """jpg, png or webp: what a picture of this format (Pillow's name) becomes if it has to be encoded."""
    return NAMES[name] if output["format"] == "keep" else str(output["format"])


def must_encode(name: str, size: Size, is_flat: bool, output: dict[str, Any]) -> bool:
    """Whether the bytes as they came will not do. is_flat: no transparency, one frame."""
    resized, canvas = fit(size, output)
    if not output["keep_original_bytes"] or resized != size or canvas != size:
        return True
    return output["format"] != "keep" and (FORMATS[output["format"]] != name or not is_flat)


def scaled_jpeg(data: bytes, size: Size, target: Size, is_grey: bool) -> Any | None:
    """Pixels (H, W[, 3], blue first) of a whole, checked JPEG, perhaps at 1/2, 1/4 or 1/8; None if it has a flaw that
    Pillow should put a name to. Orientation is not applied."""
    import simplejpeg

    if data.rfind(b"\xff\xd9", -64) < 0:
        return None  # not whole
    factor = min(size[0] / target[0], size[1] / target[1])
    scale = next((n for n in (8, 4, 2) if factor >= MIN_DCT_MARGIN * n), 1)
    height, width = -(-size[1] // scale), -(-size[0] // scale)
    colours, fast = "GRAY" if is_grey else "BGR", factor >= FAST_FROM
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, fast, fast, min_height=height, min_width=width)
    except ValueError:
        return None
    if pixels.shape[:2] != (height, width):
        return None
    return pixels[:, :, 0] if is_grey else pixels


def pixels_of(flat: Any, is_grey: bool) -> Any:
    """Pillow's picture (RGB) as an array (H, W[, 3], blue first)."""
    import numpy as np

    pixels = np.asarray(flat)
    return np.ascontiguousarray(pixels[:, :, 0] if is_grey else pixels[:, :, ::-1])


def has_arrays() -> bool:
    """Whether OpenCV was loaded at the start, because the recipe may resize."""
    return "cv2" in sys.modules


def flatten(image: Any) -> Any:
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


def resize(pixels: Any, target: Size, was_scaled: bool, two_steps: tuple[float, float] | None = None) -> Any:
    """`pixels` at `target` (width, height), without aliasing.

    was_scaled: a JPEG, of less than 3 times the target: bilinear, in two steps where one would leave pixels out; near
    to the mean over the area at a fifth of its cost (tests/benchmarks/download.py --psnr). Other formats get the mean
    over the area, and Lanczos where they grow, as img2dataset. two_steps: from which factor on, and over how many times
    the target; by default over half the size, which is the mean of four pixels where the sides are even.
    """
    import cv2

    height, width = pixels.shape[:2]
    if (width, height) == target:
        return pixels
    factor = min(width / target[0], height / target[1])
    if factor < 1:
        return cv2.resize(pixels, target, interpolation=cv2.INTER_LANCZOS4)
    if not was_scaled or factor > 2 * MIN_DCT_MARGIN:  # the latter beyond 1/8 only
        return cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)
    beginning, over = two_steps or (HALVE_FROM, 0.0)
    if factor >= beginning:
        between = round(over * target[0]), round(over * target[1])
        if two_steps is None:
            between = -(-width // 2), -(-height // 2)
        pixels = cv2.resize(pixels, between, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(pixels, target, interpolation=cv2.INTER_LINEAR)


def turn(pixels: Any, orientation: int) -> Any:
    """`pixels` upright (EXIF 2.32, 4.6.4)."""
    if orientation == 1:
        return pixels
    import numpy as np

    if orientation >= 5:  # 5-8 swap the sides
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def lay_out(pixels: Any, canvas: Size) -> Any:
    """The middle of `pixels` cut to `canvas`, or white bars around them."""
    import cv2

    height, width = pixels.shape[:2]
    if (width, height) == canvas:
        return pixels
    left, top = (width - canvas[0]) // 2, (height - canvas[1]) // 2
    if left > 0 or top > 0:
        pixels = pixels[max(0, top) : max(0, top) + canvas[1], max(0, left) : max(0, left) + canvas[0]]
    missing_x, missing_y = max(0, canvas[0] - width), max(0, canvas[1] - height)
    if not missing_x and not missing_y:
        return pixels
    top, left = missing_y // 2, missing_x // 2
    edges = top, missing_y - top, left, missing_x - left
    return cv2.copyMakeBorder(pixels, *edges, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def encode(pixels: Any, format: str, quality: int, exif: bytes) -> bytes:
    """`pixels` (blue first) as jpg, png or webp; with EXIF by Pillow, which can write it."""
    import cv2

    if exif:
        from PIL import Image

        return save(Image.fromarray(pixels if pixels.ndim == 2 else pixels[:, :, ::-1]), format, quality, exif)
    options = {
        "jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        "png": [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
    }
    done, encoded = cv2.imencode(f".{format}", pixels, options[format])
    if not done:
        raise ValueError(f"cannot be encoded as {format}")
    return bytes(encoded)


def finished(
    pixels: Any,
    resized: Size,
    canvas: Size,
    was_scaled: bool,
    orientation: int,
    exif: bytes,
    output: dict[str, Any],
    out: dict[str, Any],
) -> bytes:
    """Decoded pixels resized, turned upright, cut or framed, and encoded; `out` learns of the format and the size."""
    pixels = turn(resize(pixels, resized, was_scaled), orientation)
    pixels = lay_out(pixels, canvas if orientation < 5 else canvas[::-1])
    format = format_wanted(out["format"], output)
    out["out_format"] = FORMATS[format]
    out["out_height_px"], out["out_width_px"] = pixels.shape[:2]
    return encode(pixels, format, output["quality"], exif)


def save(image: Any, format: str, quality: int, exif: bytes) -> bytes:
    """A picture of Pillow's as jpg, png or webp, of the same settings as `encode`."""
    buffer = io.BytesIO()
    options = {"compress_level": PNG_COMPRESSION} if format == "png" else {"quality": quality}
    image.save(buffer, FORMATS[format], **options, **({"exif": exif} if exif else {}))
    return buffer.getvalue()


def exif_of(image: Any, orientation: int, output: dict[str, Any]) -> bytes:
    """The EXIF block to be stored, from `Exif\\0\\0` on; empty if there is nothing in it. orientation: 1 drops it."""
    from PIL import Image

    given = image.getexif()
    kept = given if output["keep_exif"] or output["keep_gps"] else Image.Exif()
    if not output["keep_gps"]:
        kept.pop(GPS_IFD, None)
        kept._ifds.pop(GPS_IFD, None)
        kept.get_ifd(EXIF_IFD).pop(MAKER_NOTE, None)
    kept.pop(ORIENTATION, None)
    if orientation > 1:
        kept[ORIENTATION] = orientation
    return kept.tobytes() if len(kept) else b""
