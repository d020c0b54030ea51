"""Similarity of sound and picture: whether what is heard is what is seen, by models that share a space."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa

from curation.scorers import cosines
from curation.signal import ColumnSignal, Level, as_table


class SoundPictureSimilarity(ColumnSignal):
    """Cosine of a segment's picture embedding and its sound embedding, which have to be of one space.

    That is: of one model of pictures and sounds (ImageBind, a model of `tamis train` with both streams), or of two of
    which one was trained into the space of the other. The recipe is refused at load where the two signals' weights are
    not the same and they do not both say `space: NAME`, or where their dimensions differ. It says whether sound and
    picture are about the same thing; whether they happen at the same time, `SoundAndPicture` says.
    Column: `av_similarity`, float32, -1 to 1 (every model has its own scale); null where either embedding is, or where
    one is not finite or zero. Unit: none. Model: none of its own; it follows the embeddings that it reads
    (`FrameEmbedding` or `ImageEmbedding`, and `SoundEmbedding`). Source: ImageBind, arXiv 2305.05665, by which
    HunyuanVideo-Foley (arXiv 2508.16930) filters its corpus.
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "media"

    picture: str = "clip"
    """The `name` of the signal of picture embeddings."""
    sound: str = "clap"
    """The `name` of the signal of sound embeddings."""

    def table_name(self) -> str:
        return "av_similarity"

    def reads(self) -> tuple[str, ...]:
        return (f"{self.picture}_image_embedding", f"{self.sound}_audio_embedding")

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): pa.float32()})

    def compute(self, rows: pa.Table) -> pa.Table:
        return as_table({self.table_name(): cosines(rows, *self.reads())}, self.writes())
