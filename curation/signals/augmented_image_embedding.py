"""Teacher embeddings of several augmented views of a picture, with what made the views: for distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.augmentations import PARAMETERS, augmented, drawn_parameters
from curation.media.decoded import View
from curation.models import PreparingScorer
from curation.scorers import UNTRAINED, ModelFields
from curation.signal import Image, ImageSignal

PLAIN_SIDE_PX = 224
"""Of the views where the scorer does not say what it wants."""
PICTURES_AT_A_TIME = 16


class AugmentedImageEmbedding(ModelFields, ImageSignal):
    """What a teacher says of some views of the picture, stored so that a student can be shown the same views.

    Columns: `{name}_augmented_embeddings`, fixed-size list of float16, `views` unit vectors one after the other;
    `{name}_augmentations`, fixed-size list of float32, for each view `curation.augmentations.PARAMETERS` (window as
    shares 0-1, three colour factors 0.6-1.4), to be repeated by `curation.augmentations.augmented`. The first view is
    the whole picture. Both null without a picture. Unit: none. Model: as the recipe says; the digest of weights and
    preprocessing is in the key. Source: DataCompDR, arXiv 2311.17049, which stores 10 or 30 views of RandomResizedCrop
    and RandAugment with their parameters; several teachers stand under several names. The teacher's embeddings of real
    and synthetic captions are those of `TextEmbedding`, every caption being a text of its sample.
    """

    version: ClassVar[int] = 1

    views: int = Field(default=10, ge=1, le=100)
    min_area: float = Field(default=0.4, gt=0, le=1)
    """Smallest share of the picture that a view shows."""
    seed: int = 0

    def table_name(self) -> str:
        return f"{self.name}_augmented_embeddings"

    def writes(self) -> pa.Schema:
        vectors = pa.list_(pa.float16())
        if not self.model.startswith(UNTRAINED):
            vectors = pa.list_(pa.float16(), self.views * self.loaded().embed_dim)
        parameters = pa.list_(pa.float32(), self.views * len(PARAMETERS))
        return pa.schema({self.table_name(): vectors, f"{self.name}_augmentations": parameters})

    def view(self) -> View:
        return View(self._side(), exact=False)

    def _side(self) -> int:
        scorer = self.loaded()
        return scorer.image_size if isinstance(scorer, PreparingScorer) else PLAIN_SIDE_PX

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        side, dim = self._side(), self.loaded().embed_dim
        there = [row for row, image in enumerate(images) if image is not None]
        vectors = np.zeros((len(images), self.views * dim), np.float16)
        parameters = np.zeros((len(images), self.views * len(PARAMETERS)), np.float32)
        for start in range(0, len(there), PICTURES_AT_A_TIME):
            rows = there[start : start + PICTURES_AT_A_TIME]
            shown: list[np.ndarray | None] = []
            for row in rows:
                image = images[row]
                assert image is not None
                drawn_KP = drawn_parameters(image, self.views, self.min_area, self.seed)
                parameters[row] = drawn_KP.ravel()
                shown += [augmented(image, each_P, side) for each_P in drawn_KP]
            vectors[rows] = self.loaded().encode_images(shown)[0].reshape(len(rows), -1)
        missing = pa.array([image is None for image in images], pa.bool_())
        return {
            self.table_name(): _lists(vectors, pa.float16(), missing),
            f"{self.name}_augmentations": _lists(parameters, pa.float32(), missing),
        }


def _lists(values: np.ndarray, kind: pa.DataType, missing: pa.Array) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), kind), values.shape[1], mask=missing)
