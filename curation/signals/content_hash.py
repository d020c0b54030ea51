"""Content hash: equal for files whose pixels are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.signal import Image, ImageSignal


class ContentHash(ImageSignal):
    """A digest of the decoded pixels: finds copies that differ only in container, metadata or lossless encoding.

    Column: `pixel_hash`, 32 hex digits: BLAKE2b (128 bits) of height, width and the RGB pixels as the stage hands them
    out (transparency on white, EXIF orientation applied, shrunk to at most 512 pixels on the shorter side: two
    pictures that shrink to the same pixels count as equal). Unit: none. Model: none. Source: RFC 7693.
    """

    version: ClassVar[int] = 2

    def writes(self) -> pa.Schema:
        return pa.schema({"pixel_hash": pa.string()})

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        return {"pixel_hash": [None if image is None else pixel_hash(image) for image in images]}


def pixel_hash(image: Image) -> str:
    """128 bits (32 hex digits) of shape and pixels."""
    height_px, width_px = image.shape[:2]
    hashed = hashlib.blake2b(f"{height_px} {width_px} ".encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(image).data)
    return hashed.hexdigest()
