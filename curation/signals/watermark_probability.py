"""Watermark probability, by a head on the picture's stored embedding."""

from __future__ import annotations

from typing import ClassVar

from curation.heads import EmbeddingHead


class WatermarkProbability(EmbeddingHead):
    """How likely the picture bears a watermark, from its stored embedding.

    Column: `watermark_probability` (0-1; LAION recommends to drop 0.8 and more); null without an embedding, or with one
    of zeros. Unit: probability as far as the head is calibrated. Model: the head in `weights`, which belongs to one
    embedding model; its digest is in the key. None comes with the project (`text_area_share` needs none). Source:
    LAION-5B, arXiv 2210.08402 (whose own watermark detector is a network on pixels).
    """

    version: ClassVar[int] = 2
    column: ClassVar[str] = "watermark_probability"
    is_probability: ClassVar[bool] = True
