"""Image embeddings of an image-text model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.media.decoded import View
from curation.models import PreparingScorer
from curation.scorers import ModelFields, embedding_array
from curation.signal import Image, ImageSignal


class ImageEmbedding(ModelFields, ImageSignal):
    """The picture's embedding by the image tower of a CLIP-like model.

    Column: `{name}_image_embedding`, fixed-size list of float16, norm 1 (to the precision of float16, about 5e-4);
    null without a picture. Unit: none. Model: as the recipe says; the digest of weights and preprocessing is in the
    key. Source: CLIP, arXiv 2103.00020; clip-retrieval and DataComp store the same.
    """

    version: ClassVar[int] = 2
    prepares: ClassVar[bool] = True

    def table_name(self) -> str:
        return f"{self.name}_image_embedding"

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): self.embedding_type()})

    def view(self) -> View:
        scorer = self.loaded()
        return View(scorer.image_size, exact=False) if isinstance(scorer, PreparingScorer) else super().view()

    def prepare(self, image: Image, height_px: int, width_px: int) -> Image:
        prepare_image = getattr(self.loaded(), "prepare_image", None)  # asking for a protocol costs 0.03 ms a picture
        if prepare_image is None:
            return super().prepare(image, height_px, width_px)
        prepared: Image = prepare_image(image, height_px, width_px)
        return prepared

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        embeddings_ND, present_N = self.loaded().encode_images(images)
        return {self.table_name(): embedding_array(embeddings_ND, present_N)}
