"""Text embeddings of a model of sounds and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.scorers import SoundModelFields, embedding_array
from curation.signal import TextSignal


class SoundTextEmbedding(SoundModelFields, TextSignal):
    """The text's embedding by the text tower of a CLAP-like model.

    Column: `{name}_text_embedding`, fixed-size list of float16, norm 1 (to the precision of float16); null without a
    text. Unit: none. Model: as the recipe says; the digest of weights and preprocessing is in the key. Source: CLAP,
    arXiv 2211.06687.
    """

    version: ClassVar[int] = 1

    def table_name(self) -> str:
        return f"{self.name}_text_embedding"

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): self.embedding_type()})

    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        return {self.table_name(): embedding_array(*self.loaded().encode_texts(texts))}
