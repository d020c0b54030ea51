"""CLIP score of sampled frames: how well a text describes its segment, frame by frame, from the stored embeddings."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.scorers import embedding_matrix
from curation.signal import ColumnSignal, Level, as_table


class FrameClipScore(ColumnSignal):
    """Cosines of the text's embedding with those of the segment's sampled frames.

    Columns: `{name}_frame_score_mean`, `{name}_frame_score_least`, `{name}_frame_score_most`, float32, -1 to 1 (every
    model has its own scale); null where the text or the frames have no embedding, or one that is not finite or zero.
    The least tells a segment of which a part shows something else. Unit: none. Model: none of its own; it follows the
    embeddings that it reads (`FrameEmbedding`, whose key holds the sampling, and `TextEmbedding`). Source: CLIPScore,
    arXiv 2104.08718; data-juicer's video_frames_text_similarity_filter reduces by mean, least and most.
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"

    name: str = "clip"
    """The `name` of the two embedding signals."""

    def table_name(self) -> str:
        return f"{self.name}_frame_score"

    def reads(self) -> tuple[str, ...]:
        return (f"{self.name}_frame_embeddings", f"{self.name}_text_embedding")

    def writes(self) -> pa.Schema:
        return pa.schema({f"{self.table_name()}_{kind}": pa.float32() for kind in ("mean", "least", "most")})

    def compute(self, rows: pa.Table) -> pa.Table:
        texts_ND, has_text = embedding_matrix(rows.column(self.reads()[1]))
        found: list[tuple[float, float, float] | None] = []
        for row, frames in enumerate(rows.column(self.reads()[0])):
            is_there = frames.is_valid and has_text[row]
            cosines = _cosines(frames.values, texts_ND[row]) if is_there else np.zeros(0, np.float32)
            is_known = len(cosines) > 0 and bool(np.isfinite(cosines).all())
            found.append((float(cosines.mean()), float(cosines.min()), float(cosines.max())) if is_known else None)
        columns = {
            name: pa.array([None if each is None else each[k] for each in found], pa.float32())
            for k, name in enumerate(self.writes().names)
        }
        return as_table(columns, self.writes())


def _cosines(frames: pa.Array, text_D: np.ndarray) -> np.ndarray:
    """float32 cosine of each frame's vector with the text's; NaN where one is zero. Raises ValueError where they are
    not of one length."""
    flat = frames.to_numpy(zero_copy_only=False).astype(np.float32)
    if len(flat) % len(text_D):
        raise ValueError(f"{len(flat)} numbers of frames are no vectors of {len(text_D)} dimensions: not of one model")
    frames_FD = flat.reshape(-1, len(text_D))
    norms_F = np.linalg.norm(frames_FD, axis=1) * np.linalg.norm(text_D)
    dots_F = frames_FD @ text_D
    cosines_F: np.ndarray = np.divide(dots_F, norms_F, out=np.full_like(dots_F, np.nan), where=norms_F > 0)
    return cosines_F.clip(-1.0, 1.0)
