"""Text embeddings of an image-text model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.scorers import DEFAULT_SCORER, cached_scorer, embedding_array, embedding_type
from curation.signal import TextSignal


class TextEmbedding(TextSignal):
    """The text's embedding by the text tower of a CLIP-like model.

    Column: `{name}_text_embedding`, fixed-size list of float16, norm 1 (to the precision of float16, about 5e-4);
    null without a text. Unit: none. Model: as the recipe says; the digest of weights and preprocessing is in the key.
    Source: CLIP, arXiv 2103.00020.
    """

    version: ClassVar[int] = 1
    not_in_key: ClassVar[frozenset[str]] = frozenset({"model", "scorer"})

    name: str = "clip"
    """Begins the column's name, so that several models stand side by side."""
    model: str
    """Which model: what the scorer takes, such as the folder of a training run, or `ViT-B-32/openai`."""
    scorer: str = DEFAULT_SCORER
    """Import path of the class that loads it (see `curation.models.load_scorer`)."""

    def table_name(self) -> str:
        return f"{self.name}_text_embedding"

    def key_extras(self) -> dict[str, object]:
        return {"weights": cached_scorer(self.scorer, self.model).weights_digest}

    def needs_model(self) -> bool:
        return True

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): embedding_type(self.scorer, self.model)})

    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        embeddings_ND, present_N = cached_scorer(self.scorer, self.model).encode_texts(texts)
        return {self.table_name(): embedding_array(embeddings_ND, present_N)}
