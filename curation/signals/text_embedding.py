"""Text embeddings of an image-text model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.scorers import ModelFields, embedding_array
from curation.signal import TextSignal


class TextEmbedding(ModelFields, TextSignal):
    """The text's embedding by the text tower of a CLIP-like model.

    Column: `{name}_text_embedding`, fixed-size list of float16, norm 1 (to the precision of float16, about 5e-4);
    null without a text. Unit: none. Model: as the recipe says; the digest of weights and preprocessing is in the key.
    Source: CLIP, arXiv 2103.00020.
    """

    version: ClassVar[int] = 2

    def table_name(self) -> str:
        return f"{self.name}_text_embedding"

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): self.embedding_type()})

    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        embeddings_ND, present_N = self.loaded().encode_texts(texts)
        return {self.table_name(): embedding_array(embeddings_ND, present_N)}
