"""CLIP score of the picture without its writing: what T-MARS filters by."""

from __future__ import annotations

from typing import ClassVar

from curation.signals.clip_score import ClipScore


class MaskedClipScore(ClipScore):
    """Cosine of the text's embedding and that of the picture whose writing is covered.

    Column: `{name}_score_text_masked`, float32, -1 to 1 (the scale of `{name}_score`; lower where the picture merely
    shows its caption in letters); null where either embedding is. Unit: none. Model: none of its own. Source: T-MARS,
    arXiv 2307.03132.
    """

    version: ClassVar[int] = 1

    def table_name(self) -> str:
        return f"{self.name}_score_text_masked"

    def reads(self) -> tuple[str, ...]:
        return (f"{self.name}_masked_image_embedding", f"{self.name}_text_embedding")
