"""CLAP score: how well a text describes the sound of its segment, from the stored embeddings."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa

from curation.scorers import cosines
from curation.signal import ColumnSignal, Level, as_table


class ClapScore(ColumnSignal):
    """Cosine of the text's and the sound's embedding.

    Column: `{name}_score`, float32, -1 to 1 (every model has its own scale; AudioSetCaps compares captions of one sound
    with each other and sets no threshold); null where either embedding is, or where one is not finite or zero. Unit:
    none. Model: none of its own; it follows the embeddings that it reads (`SoundEmbedding`, `SoundTextEmbedding`).
    Source: CLAP, arXiv 2211.06687; AudioSetCaps, arXiv 2411.18953.
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"

    name: str = "clap"
    """The `name` of the two embedding signals."""

    def table_name(self) -> str:
        return f"{self.name}_score"

    def reads(self) -> tuple[str, ...]:
        return (f"{self.name}_audio_embedding", f"{self.name}_text_embedding")

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): pa.float32()})

    def compute(self, rows: pa.Table) -> pa.Table:
        return as_table({self.table_name(): cosines(rows, *self.reads())}, self.writes())
