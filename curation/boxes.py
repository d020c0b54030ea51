"""Boxes in pictures, and what signals whose detector finds boxes have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
import pyarrow as pa
from pydantic import model_validator

from curation.file_digest import known_digest
from curation.signal import Image, ImageSignal

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares 0-1 of the picture's width and height."""


def mask_of(boxes: list[Box], height: int, width: int) -> np.ndarray:
    """(height, width) bool: inside any box."""
    mask = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in boxes:
        mask[int(top * height) : int(np.ceil(bottom * height)), int(left * width) : int(np.ceil(right * width))] = True
    return mask


class BoxDetector(Protocol):
    """What finds boxes in a picture."""

    def boxes(self, image: Image) -> list[Box] | None:
        """The boxes; None where the model's numbers mean nothing."""


class BoxSignal(ImageSignal):
    """Base of signals that say how many boxes a detector finds, how much of the picture they cover, and where."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"weights"})
    number_name: ClassVar[str]
    share_name: ClassVar[str]
    boxes_name: ClassVar[str]

    weights: Path | None = None
    """An ONNX file of the same kind of detector; by default the one in the package that the class names."""

    @abstractmethod
    def default_weights(self) -> Path:
        """The weights that come with a package; raises ValueError naming what has to be installed."""

    @abstractmethod
    def detector(self) -> BoxDetector:
        """This process's detector."""

    @model_validator(mode="after")
    def _there(self) -> Self:
        if not self.file().is_file():
            raise ValueError(f"weights: there is no file {self.weights}")
        return self

    def file(self) -> Path:
        """The weights in use."""
        return self.weights or self.default_weights()

    def key_extras(self) -> dict[str, object]:
        return {"weights": known_digest(self.file())}

    def needs_model(self) -> bool:
        return True

    def writes(self) -> pa.Schema:
        boxes = pa.list_(pa.list_(pa.float32(), 4))
        return pa.schema({self.number_name: pa.int32(), self.share_name: pa.float32(), self.boxes_name: boxes})

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        detector = self.detector()
        boxes = [None if image is None else detector.boxes(image) for image in images]
        shares = [
            None if image is None or found is None else float(mask_of(found, *image.shape[:2]).mean())
            for image, found in zip(images, boxes, strict=True)
        ]
        numbers = [None if found is None else len(found) for found in boxes]
        lists = [None if found is None else [list(box) for box in found] for found in boxes]
        return {self.number_name: numbers, self.share_name: shares, self.boxes_name: lists}
