"""Aesthetic score: how much people would like a picture, by a head on its stored embedding."""

from __future__ import annotations

from typing import ClassVar

from curation.heads import EmbeddingHead


class AestheticScore(EmbeddingHead):
    """How much people would like the picture, from its stored embedding.

    Column: `aesthetic_score` (for LAION's predictors about 1 to 10, most pictures 4 to 6; LAION-Aesthetics takes 4.5,
    5, 6 or more); null without an embedding, or with one of zeros. Unit: points. Model: the head in `weights`, which
    belongs to one embedding model (LAION's V2 to OpenAI's ViT-L/14; none comes with the project); its digest is in the
    key. Source: LAION aesthetic predictor (Schuhmann 2022), LAION-5B, arXiv 2210.08402.
    """

    version: ClassVar[int] = 2
    column: ClassVar[str] = "aesthetic_score"
