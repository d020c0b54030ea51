"""What the decoder's process may spend on a picture, and what it says of one."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class DecodeLimits:
    """What a picture may ask of the decoder.

    max_pixels: width x height by the header, checked before any decoding (50 Mpx).
    max_aspect: longer over shorter side (20).
    min_side_px: shorter side; what is smaller (a tracking pixel, a spacer) is no picture (4).
    max_frames: frames of an animation; only the first is decoded, the others cost a walk over the file.
    max_memory_bytes: address space of the child (RLIMIT_AS); not enforced by macOS.
    timeout_s: wall-clock seconds for one picture, then the child is killed.
    formats: Pillow's names of what may be opened at all.
    """

    max_pixels: int = 50_000_000
    max_aspect: float = 20.0
    min_side_px: int = 4
    max_frames: int = 1_000
    max_memory_bytes: int = 1_500_000_000
    timeout_s: float = 20.0
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF")


@dataclass(frozen=True)
class Decoded:
    """What became of the bytes of one picture.

    format: Pillow's name by the first bytes, also where refused by name; None if no picture.
    width_px, height_px: of the original as it is shown (EXIF orientation applied); None if no header was read.
    num_frames: 1 for a still; counted up to the limit. has_alpha: a transparency channel or colour.
    pixels: (H, W, 3) uint8 RGB of the first frame, read-only: oriented, transparency on white, shrunk as asked; None
    where not asked for or where there is a reason.
    stored: by `Decoder.convert`, the bytes to store; None where those are the bytes as they came (or for a reason).
    views: by `ViewDecoder.views`, as `pixels`, one for each view.
    out_format, out_width_px, out_height_px: by `Decoder.convert`, of what is to be stored.
    reason: `img.*` code, None if all is well. detail: at most 200 characters, from the decoder, so not to be trusted.
    """

    format: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    num_frames: int | None = None
    has_alpha: bool | None = None
    pixels: npt.NDArray[np.uint8] | None = None
    stored: bytes | None = None
    views: tuple[npt.NDArray[np.uint8], ...] | None = None
    out_format: str | None = None
    out_width_px: int | None = None
    out_height_px: int | None = None
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True, order=True)
class View:
    """Pixels as a signal wants them, a pure function of the bytes.

    short_side_px: of the shorter side; nothing is enlarged. exact: shrunk to just that (a JPEG at the smallest of 1,
    1/2, 1/4, 1/8 that keeps 1.5 times as much, then bilinear; other formats by areas). Not exact: at least 1.25 and
    less than 4 times as much, for signals that have a filter of their own.
    """

    short_side_px: int = 512
    exact: bool = True
