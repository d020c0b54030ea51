"""NSFW probability: sexual content, by a head on the picture's stored embedding."""

from __future__ import annotations

from typing import ClassVar

from curation.heads import EmbeddingHead


class NsfwProbability(EmbeddingHead):
    """How likely the picture is not safe for work, from its stored embedding.

    Column: `nsfw_probability` (0-1; LAION and NeMo Curator drop 0.5 and more); null without an embedding, or with one
    of zeros. Unit: probability as far as the head is calibrated. Model: the head in `weights`, which belongs to one
    embedding model (LAION's CLIP-based detector to OpenAI's ViT-L/14, with `activation: relu`; none comes with the
    project); its digest is in the key. Source: LAION-5B, arXiv 2210.08402, and DataComp, arXiv 2304.14108, which use
    such a head.
    """

    version: ClassVar[int] = 2
    column: ClassVar[str] = "nsfw_probability"
    is_probability: ClassVar[bool] = True
