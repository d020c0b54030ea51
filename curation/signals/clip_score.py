"""CLIP score: how well a text describes its picture, from the stored embeddings."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa

from curation.scorers import cosines
from curation.signal import ColumnSignal, Level, as_table


class ClipScore(ColumnSignal):
    """Cosine of the text's and the picture's embedding.

    Column: `{name}_score`, float32, -1 to 1 (for OpenAI's ViT-L/14 about 0.1 for unrelated and 0.3 for matching pairs;
    every model has its own scale); null where either embedding is, or where one is not finite or zero. Unit: none.
    Model: none of its own; it follows the embeddings that it reads. Source: CLIPScore, arXiv 2104.08718 (without its
    factor 2.5); LAION, arXiv 2210.08402.
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"

    name: str = "clip"
    """The `name` of the two embedding signals."""

    def table_name(self) -> str:
        return f"{self.name}_score"

    def reads(self) -> tuple[str, ...]:
        return (f"{self.name}_image_embedding", f"{self.name}_text_embedding")

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): pa.float32()})

    def compute(self, rows: pa.Table) -> pa.Table:
        return as_table({self.table_name(): cosines(rows, *self.reads())}, self.writes())
