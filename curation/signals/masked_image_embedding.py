"""Image embeddings of pictures whose writing is covered: the first half of T-MARS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
from pydantic import model_validator

from curation.file_digest import known_digest
from curation.scorers import ModelFields, embedding_array
from curation.signal import Image, ImageSignal
from curation.text_detection import default_weights, text_detector, without_text


class MaskedImageEmbedding(ModelFields, ImageSignal):
    """The embedding of the picture without its text: every detected box has the mean colour of its surroundings.

    Column: `{name}_masked_image_embedding`, fixed-size list of float16, norm 1; null without a picture. Unit: none.
    Model: the recipe's, and PP-OCRv6 detection, small (Apache-2.0), of the package rapidocr, or `detector`; both
    digests are in the key. Source: T-MARS, arXiv 2307.03132; the fill is this project's (the released code has none).
    """

    version: ClassVar[int] = 1
    not_in_key: ClassVar[frozenset[str]] = ModelFields.not_in_key | {"detector"}

    detector: Path | None = None
    """An ONNX file of another DB text detector."""

    @model_validator(mode="after")
    def _there(self) -> Self:
        if not self.file().is_file():
            raise ValueError(f"detector: there is no file {self.detector}")
        return self

    def file(self) -> Path:
        """The detector's weights in use."""
        return self.detector or default_weights()

    def key_extras(self) -> dict[str, object]:
        return {**super().key_extras(), "detector": known_digest(self.file())}

    def table_name(self) -> str:
        return f"{self.name}_masked_image_embedding"

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): self.embedding_type()})

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        detector = text_detector(self.file())
        masked = [None if image is None else without_text(image, detector.boxes(image)) for image in images]
        embeddings_ND, present_N = self.loaded().encode_images(masked)
        return {self.table_name(): embedding_array(embeddings_ND, present_N)}
