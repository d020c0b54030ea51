"""Embeddings of sampled frames of a segment, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.av.segment_signal import DecodedSegment, SegmentSignal
from curation.scorers import ModelFields, embedding_array
from curation.signal import as_table


class FrameEmbedding(ModelFields, SegmentSignal):
    """The embeddings of frames spread over a segment, by the image tower of a CLIP-like model, one by one and pooled.

    Of the frames that are shown at each whole second from the start (the shorter side at most 256 pixels), the ones in
    the middles of `num_frames` equal parts, or all where there are no more; so the sampling follows from the segment
    alone and is in the key. Columns: `{name}_image_embedding`, fixed-size list of float16: their mean, norm 1 (to the
    precision of float16), which every signal of picture embeddings reads as that of a picture;
    `{name}_frame_embeddings`, list of float16: the unit vectors themselves, one after the other in time;
    `{name}_frames`, int32, 1 or more: how many those are. All null without a picture. Unit: as said. Model: as the
    recipe says; the digest of weights and preprocessing is in the key. Source: CLIP4Clip, arXiv 2104.08860 (mean
    pooling); 3 to 8 frames are what Open-Sora, data-juicer and cosmos-curate score.
    """

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("views",)

    num_frames: int = Field(default=8, ge=1, le=1000)

    def table_name(self) -> str:
        return f"{self.name}_frame_embeddings"

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                f"{self.name}_image_embedding": self.embedding_type(),
                self.table_name(): pa.list_(pa.float16()),
                f"{self.name}_frames": pa.int32(),
            }
        )

    def of_segment(self, segment: DecodedSegment) -> dict[str, object]:
        return {name: column[0].as_py() for name, column in self._columns([segment]).items()}

    def compute_segments(self, segments: Sequence[DecodedSegment | None]) -> pa.Table:
        return as_table(self._columns(segments), self.writes())

    def _columns(self, segments: Sequence[DecodedSegment | None]) -> dict[str, pa.Array]:
        there = [None if each is None or each.views is None else each.views.pixels for each in segments]
        chosen = [() if pixels is None else pixels[places(len(pixels), self.num_frames)] for pixels in there]
        vectors_FD, _ = self.loaded().encode_images([frame for frames in chosen for frame in frames])
        pooled_ND = np.zeros((len(segments), self.loaded().embed_dim), np.float32)
        stored: list[np.ndarray | None] = []
        at = 0
        for row, frames in enumerate(chosen):
            own_FD, at = vectors_FD[at : at + len(frames)], at + len(frames)
            stored.append(own_FD.astype(np.float16).ravel() if len(frames) else None)
            mean_D = own_FD.mean(axis=0) if len(frames) else pooled_ND[row]
            pooled_ND[row] = mean_D / max(float(np.linalg.norm(mean_D)), 1e-12)
        present_N = np.array([each is not None for each in stored], bool)
        counts = [len(frames) or None for frames in chosen]
        values = pooled_ND, pa.array(stored, pa.list_(pa.float16())), pa.array(counts, pa.int32())
        return dict(zip(self.writes().names, (embedding_array(values[0], present_N), *values[1:]), strict=True))


def places(count: int, most: int) -> np.ndarray:
    """Which of `count` frames are taken: those in the middles of `most` equal parts, or all."""
    if count <= most:
        return np.arange(count)
    return ((np.arange(most) + 0.5) * count / most).astype(np.int64)
