"""Text area: how much of a picture is writing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from pydantic import model_validator

from curation.signal import Image, ImageSignal
from curation.text_detection import default_weights, mask_of, text_detector
from curation.weights import file_digest, needs_onnxruntime


class TextArea(ImageSignal):
    """What a text detector finds in the picture: captions in the picture, logos, watermarks, screenshots.

    Columns: `text_area_share` (0-1: share of the picture inside the boxes, their overlap counted once);
    `num_text_boxes` (0 or more; about one for each line); `text_boxes` (left, top, right, bottom of each, as shares
    0-1 of width and height, top to bottom). Unit: as said. Model: PP-OCRv6 detection, small (Apache-2.0), of the
    package rapidocr, or `weights`; its digest is in the key. Source: DB, arXiv 1911.08947; T-MARS, arXiv 2307.03132
    (whose detector is FAST).
    """

    version: ClassVar[int] = 1
    not_in_key: ClassVar[frozenset[str]] = frozenset({"weights"})

    weights: Path | None = None
    """An ONNX file of another DB detector; by default the one in the package rapidocr."""

    @model_validator(mode="after")
    def _there(self) -> Self:
        needs_onnxruntime()
        if not self.file().is_file():
            raise ValueError(f"weights: there is no file {self.weights}")
        return self

    def file(self) -> Path:
        """The weights in use."""
        return self.weights or default_weights()

    def key_extras(self) -> dict[str, object]:
        return {"weights": file_digest(self.file())}

    def needs_model(self) -> bool:
        return True

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "text_area_share": pa.float32(),
                "num_text_boxes": pa.int32(),
                "text_boxes": pa.list_(pa.list_(pa.float32(), 4)),
            }
        )

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        detector = text_detector(self.file())
        boxes = [None if image is None else detector.boxes(image) for image in images]
        shares = [
            None if image is None or found is None else float(mask_of(found, *image.shape[:2]).mean())
            for image, found in zip(images, boxes, strict=True)
        ]
        numbers = [None if found is None else len(found) for found in boxes]
        lists = [None if found is None else [list(box) for box in found] for found in boxes]
        return {"text_area_share": shares, "num_text_boxes": numbers, "text_boxes": lists}
