"""The dirt of the demo crawl: what is wrong with a share of its pictures and captions, and the bodies that say so.

Shares are of pictures, or of rows for captions; they are of the order that crawls report (LAION-5B and DataComp lost a
tenth to a third of their links, most of them to dead ones; here less, since the demo has few pictures to lose).
"""

import io
import struct
import zlib
from collections.abc import Iterable

from keyed import number, pick, ranked
from PIL import Image

# Labels of a URL. A damaged picture has no other URL: its captions are lost, and must be accounted for.
DAMAGE_SHARES = {
    "http_404": 0.012,
    "http_410": 0.004,
    "http_500": 0.004,
    "closed": 0.004,  # the connection is closed without an answer
    "html": 0.010,  # a sign-in page instead of the picture
    "short_body": 0.005,  # fewer bytes than Content-Length says
    "cut_file": 0.005,  # the answer is whole, the file is not
    "tiny": 0.005,  # one transparent pixel
    "noai": 0.010,  # X-Robots-Tag: noai
    "redirect": 0.010,  # harmless: leads to the picture
    "redirect_forbidden": 0.004,  # leads to an address that stands for a private network
    "bomb": 0.0,  # a small PNG that declares 30,000 x 30,000 pixels: one, whatever the size of the corpus
}
# A copied picture keeps its own clean URL and gets one more, with the same captions.
COPY_SHARES = {"exact_copy": 0.030, "jpeg_copy": 0.020, "resized_copy": 0.020}
CAPTION_SHARES = {"swapped": 0.010, "boilerplate": 0.010, "empty": 0.005, "control": 0.004}
# As crawls are before anyone filters them, for the ablation: about half of the pairs say nothing of their picture.
# 100,000 pairs taken from web pages as they are: nearly 70 % noise (Noise of Web, arXiv 2408.01349). LAION-5B dropped
# about 90 % of its candidates by CLIP score (arXiv 2210.08402); DataComp's pool trains best on its upper 30 % (arXiv
# 2304.14108, table 3). So a half is on the careful side.
WEB_CAPTION_SHARES = {"swapped": 0.300, "boilerplate": 0.150, "empty": 0.020, "control": 0.010}
LEVELS = {"light": CAPTION_SHARES, "web": WEB_CAPTION_SHARES, "none": {}}
"""How dirty a crawl is; in one with `none` the pictures are whole too, and there are no copies: to evaluate on."""
FEWEST_FOR_ALL_LABELS = (
    24  # a corpus of so many pictures has each label at least once; a smaller one only as shares say
)
NEAR_COPY_MIN_SIDE_PX = 32  # below it, a re-encoded or resized copy is hardly the same picture

JPEG_QUALITY = 60
RESIZE_RATIO = 0.7
BOMB_SIDE_PX = 30_000
FORBIDDEN_HOST = "127.66.6.6"  # loopback, so that nothing leaves the machine where a fetcher is fooled

HTML = (
    b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1>"
    b"<p>You must be logged in to see this picture.</p></body></html>\n"
)
HTML_TYPES = ("image/jpeg", "image/png", "text/html; charset=utf-8")
NOAI_TAGS = ("noai", "noai, noimageai", "noindex, noai")
BOILERPLATE = (
    "IMG_{n}.jpg",
    "DSC0{n}.JPG",
    "screenshot_{n}.png",
    "click here",
    "Click to enlarge",
    "image",
    "untitled",
    "Loading...",
    "Share on Facebook",
    "Buy now! Free shipping on all orders",
    "Copyright 2009. All rights reserved.",
)
EMPTY = ("", "   ", "\u200b", None)
CONTROL = ("\x07{}", "{}\x1b[31m!\x1b[0m", "\u202e{}", "\ufeff{}", "{}\r\n\r\n\t", "\x01\x02{}\x03", "{}\u2028\x0b")


def _count(share: float, total: int) -> int:
    least = 1 if total >= FEWEST_FOR_ALL_LABELS else 0
    return max(least, round(share * total))


def damage_of(names: Iterable[str], seed: str) -> dict[str, str]:
    """{picture name: label} for the damaged pictures; the others are clean."""
    order = ranked(names, seed, "damage")
    labels = [label for label, share in DAMAGE_SHARES.items() for _ in range(_count(share, len(order)))]
    return dict(zip(order, labels, strict=False))


def copies_of(names: Iterable[str], near: Iterable[str], total: int, seed: str) -> list[tuple[str, str]]:
    """(label, picture name) for each copy. names: the clean pictures.  near: those of them fit for a changed copy.
    total: of how many pictures the shares are. A picture may be copied in more than one way."""
    fit = {"exact_copy": list(names)}
    near = list(near)
    return [
        (label, name)
        for label, share in COPY_SHARES.items()
        for name in ranked(fit.get(label, near), seed, label)[: _count(share, total)]
    ]


def caption_damage_of(keys: Iterable[str], total: int, seed: str, level: str = "light") -> dict[str, str]:
    """{row key: label} for the damaged captions. keys: rows fit for damage.  total: of how many rows the shares are."""
    order = ranked(keys, seed, "caption")
    labels = [label for label, share in LEVELS[level].items() for _ in range(_count(share, total))]
    return dict(zip(order, labels, strict=False))


def damaged_caption(label: str, caption: str, key: str) -> str | None:
    """What the link table says instead of `caption`, for any label but "swapped"."""
    if label == "boilerplate":
        return pick(BOILERPLATE, key, "boilerplate").format(n=1000 + number(key, "n") % 9000)
    if label == "empty":
        return pick(EMPTY, key, "empty")
    return pick(CONTROL, key, "control").replace("{}", caption)


def flatten(data: bytes) -> Image.Image:
    """The picture as RGB, its alpha composed on white."""
    with Image.open(io.BytesIO(data)) as image:
        rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def jpeg_copy(data: bytes) -> bytes:
    """The picture on white as a JPEG of quality 60."""
    file = io.BytesIO()
    flatten(data).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def resized_copy(data: bytes) -> bytes:
    """The picture at 70 % of its width and height, as PNG, alpha kept (Pillow resizes with premultiplied alpha)."""
    with Image.open(io.BytesIO(data)) as image:
        rgba = image.convert("RGBA")
    size = (max(1, round(rgba.width * RESIZE_RATIO)), max(1, round(rgba.height * RESIZE_RATIO)))
    file = io.BytesIO()
    rgba.resize(size, Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def smallest_side_px(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return min(image.size)


def tiny_png() -> bytes:
    """One transparent pixel."""
    file = io.BytesIO()
    Image.new("RGBA", (1, 1), (255, 255, 255, 0)).save(file, "PNG")
    return file.getvalue()


def cut_at(data: bytes, share: float = 0.5) -> int:
    """At which byte to cut a PNG file so that pixels are missing: this share of the way to the end of its last IDAT."""
    last = data.rindex(b"IDAT")
    (size,) = struct.unpack(">I", data[last - 4 : last])
    return int((last + 4 + size) * share)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb_png(side_px: int = BOMB_SIDE_PX) -> bytes:
    """A small valid PNG of side_px x side_px black one-bit pixels, compressed in a stream: 110 KB that declare 900 Mpx
    (0.9 to 3.6 GB once decoded to 8 bits a channel). Format: PNG specification (ISO/IEC 15948), sections 9 and 11."""
    deflate = zlib.compressobj(9)
    row = bytes(1 + (side_px + 7) // 8)  # filter type 0, then the pixels
    body = b"".join([deflate.compress(row) for _ in range(side_px)] + [deflate.flush()])
    header = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
