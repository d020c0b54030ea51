"""Taking EXIF, XMP and IPTC out of a picture's file without decoding it; the coded picture stays bit for bit.

Loaded as a file by `decode_child.py`; standard library only. A file whose structure is not followed raises ValueError
(or IndexError): its picture is then encoded anew rather than stored with what it may carry.
"""

import re
import zlib

_PNG_HEAD = 8
_PNG_TEXTS = (b"XML:com.adobe.xmp", b"Raw profile type ")
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)  # not stuffing, not a restart
_XMP_GIF = b"\x21\xff\x0bXMP DataXMP"


def has_metadata(data: bytes, name: str) -> bool:
    """Whether the file may hold EXIF, XMP or IPTC. Never wrongly False."""
    words = {
        "JPEG": (b"Exif\0", b"ns.adobe.com", b"Photoshop 3.0", b"MPF\0"),
        "PNG": (b"eXIf", *_PNG_TEXTS),
        "WEBP": (b"EXIF", b"XMP "),
        "GIF": (_XMP_GIF,),
    }
    return any(word in data for word in words[name])


def replaced(data: bytes, name: str, exif: bytes) -> bytes:
    """The file with `exif` (from `Exif\\0\\0` on, may be empty) in place of its EXIF, XMP and IPTC."""
    return {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "GIF": _gif}[name](data, exif)


def _jpeg(data: bytes, exif: bytes) -> bytes:
    """Segments up to the first end of image: what lies behind it (previews with an EXIF of their own) goes too."""
    head, kept = bytearray(b"\xff\xd8"), bytearray()
    at = 2
    while True:
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            raise ValueError("a JPEG without an end")
        kept += data[at : found.start()]  # coded data behind a start of scan
        kind, at = found.group()[-1], found.end()
        if kind == 0xD9:
            break
        if kind in (0x01, 0xD8):
            raise ValueError(f"a marker {kind:#x} inside a JPEG")
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise ValueError("a segment longer than its JPEG")
        segment, body = b"\xff" + bytes([kind]) + data[at : at + length], data[at + 2 : at + length]
        at += length
        if kind == 0xE0 and not kept:
            head += segment  # JFIF comes first
        elif kind not in (0xE1, 0xED) and not (kind == 0xE2 and body.startswith(b"MPF\0")):
            kept += segment
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif if exif else b""
    if len(exif) > 65533:
        raise ValueError("EXIF longer than a segment")
    return bytes(head + block + kept + b"\xff\xd9")


def _png(data: bytes, exif: bytes) -> bytes:
    """Chunks up to IEND."""
    out, at, kind = bytearray(data[:_PNG_HEAD]), _PNG_HEAD, b""
    while kind != b"IEND":
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + size
        if len(kind) < 4 or end > len(data):
            raise ValueError("a chunk longer than its PNG")
        if kind == b"IDAT" and exif:
            body = b"eXIf" + exif.removeprefix(b"Exif\0\0")
            out += (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
            exif = b""
        is_text = kind in (b"tEXt", b"zTXt", b"iTXt") and data.startswith(_PNG_TEXTS, at + 8)
        if kind != b"eXIf" and not is_text:
            out += data[at:end]
        at = end
    return bytes(out)


def _webp(data: bytes, exif: bytes) -> bytes:
    """Chunks of the RIFF container; the flags of the extended header follow."""
    end, at = min(len(data), int.from_bytes(data[4:8], "little") + 8), 12
    chunks: list[tuple[bytes, bytes]] = []
    while at + 8 <= end:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > end:
            raise ValueError("a chunk longer than its WebP")
        if kind not in (b"EXIF", b"XMP "):
            chunks.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    if not chunks or chunks[0][0] != b"VP8X" or len(chunks[0][1]) != 10:
        raise ValueError("metadata in a WebP without an extended header")
    if exif:
        chunks.append((b"EXIF", exif.removeprefix(b"Exif\0\0")))
    flags = chunks[0][1][0] & ~0x0C | (0x08 if exif else 0)
    chunks[0] = b"VP8X", bytes([flags]) + chunks[0][1][1:]
    body = b"WEBP" + b"".join(k + len(c).to_bytes(4, "little") + c + b"\0" * (len(c) % 2) for k, c in chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _gif(data: bytes, _exif: bytes) -> bytes:
    """Without XMP blocks; a GIF has no EXIF."""
    out, at = bytearray(), 0
    while (start := data.find(_XMP_GIF, at)) >= 0:
        out += data[at:start]
        at = start + len(_XMP_GIF)
        while data[at]:
            at += data[at] + 1
        at += 1
    return bytes(out + data[at:])
