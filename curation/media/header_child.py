"""What a picture's first bytes say, read without any decoder.

Loaded as a file by `decode_child.py`; standard library only.
"""

import struct

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


_TRUNCATED_WORDS = ("truncated", "unexpected end", "not enough image data", "image file is incomplete", "cannot read")


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


_SOF = (0xC0, 0xC1, 0xC2)  # 8-bit baseline, extended, progressive (ITU-T T.81, table B.1)
_SOS = 0xDA
# Tables, restart interval, comment, and applications' segments; APP1 may turn the picture
_PLAIN = frozenset({0xC4, 0xDB, 0xDD, 0xFE, 0xE0, *range(0xE2, 0xF0)})


def plain_jpeg(data: bytes) -> tuple[tuple[int, int], bool] | None:
    """((width, height), is grey) of a JPEG that is one picture, of 8 bits, grey or coloured, and not turned, by its
    segments up to the coded data. None for any other, and where something is odd."""
    at, found = 2, None
    while at + 10 <= len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == _SOS:
            return found
        if kind in _SOF and found is None and length >= 8 and data[at + 4] == 8:
            height, width, layers = struct.unpack_from(">HHB", data, at + 5)
            if layers not in (1, 3) or not width or not height:
                return None
            found = (width, height), layers == 1
        elif kind not in _PLAIN or data.startswith(b"MPF\0", at + 4) or length < 2:
            return None
        at += 2 + length
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


def why_malformed(data: bytes, name: str | None, message: str) -> str:
    """Reason code for bytes that Pillow refused with this message."""
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
