"""What of a downloaded picture is stored: which pictures, at what size, in which format, with which metadata.

Names and meanings are img2dataset's (1.47), with four differences: a header that fails is refused before anything is
decoded; EXIF orientation is applied; a picture that is already as wanted keeps its bytes; nothing is enlarged unless
`resize_only_if_bigger` is switched off.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curation.step import Step

ResizeMode = Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]


class ImageOutput(Step):
    """`download.image` of a recipe. The default stores the bytes as they came, without EXIF, XMP and IPTC."""

    resize_mode: ResizeMode = "no"
    """keep_ratio: the shorter side becomes `image_size`. center_crop: so, then the middle square. keep_ratio_largest:
    the longer side becomes `image_size`. border: so, then white bars to a square. no: the size stays."""
    image_size: int = Field(default=256, ge=1, le=16_384)
    """Pixels of the side that `resize_mode` names."""
    resize_only_if_bigger: bool = True
    """Leave a picture alone (no enlarging, no cropping, no bars) whose side is not above `image_size`. img2dataset's
    default is False."""
    format: Literal["keep", "jpg", "png", "webp"] = "keep"
    """Of the stored bytes. keep: the format it came in; a GIF that has to be encoded anew becomes a PNG. With a named
    format, transparency and animation never survive; with `keep` they do where the original bytes stay."""
    quality: int = Field(default=95, ge=1, le=100)
    """Of JPEG and WebP; PNG is lossless."""
    min_image_size: int = Field(default=0, ge=0)
    """Pixels of the shorter side of the original; below it is `img.too_small`."""
    max_image_area: int | None = Field(default=None, ge=1)
    """Pixels of the original; above it is `img.too_large`."""
    max_aspect_ratio: float | None = Field(default=None, ge=1)
    """Longer over shorter side of the original; above it is `img.aspect`."""
    keep_original_bytes: bool = True
    """Store the bytes as they came where size and format need no change; otherwise every picture is encoded anew."""
    keep_exif: bool = False
    """Keep EXIF, without position and maker note. Orientation is kept in any case where the original bytes stay."""
    keep_gps: bool = False
    """Keep the position too (and XMP, IPTC and maker note of original bytes, which may hold one)."""
    animated: Literal["first_frame", "refuse"] = "first_frame"
    """What becomes of an animation: its first frame counts, or `img.animated`."""

    @property
    def may_encode(self) -> bool:
        """Whether some picture may have to be resized or encoded anew."""
        return self.resize_mode != "no" or self.format != "keep" or not self.keep_original_bytes
