"""What a recipe may ask beyond equal and near-duplicate media: texts that are alike, and media that mean the same."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from curation.minhash import MAX_HASHES, choose_bands
from curation.shingles import CHARACTERS, WORDS
from curation.step import Step


class TextSearch(Step):
    """Texts of one normal form, and texts whose shingle sets are alike (`curation.shingles`, `curation.minhash`)."""

    column: str = "text"
    """Which text is compared: a column of the texts or of a text signal, such as `text_clean`."""
    similarity: float = Field(default=0.8, gt=0, le=1)
    """Least Jaccard similarity of two shingle sets; every pair is verified exactly. At 1 only equal sets."""
    recall: float = Field(default=0.99, gt=0, lt=1)
    """Share of the pairs of just this similarity that is found; of more similar ones more are."""
    words: int = Field(default=WORDS, ge=1, le=20)
    """Words of a shingle; 1 for very short texts, 5 and more for documents."""
    characters: int = Field(default=CHARACTERS, ge=1, le=40)
    """The same for scripts without spaces, in characters."""
    min_words: int = Field(default=1, ge=1)
    """Texts of fewer words (or characters of scripts without spaces) are left alone: "a dog" repeats by chance."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        choose_bands(self.similarity, self.recall, MAX_HASHES)
        return self


class SemanticSearch(Step):
    """Media (or texts) whose stored embeddings are alike (`curation.semantic`), after SemDeDup, arXiv 2303.09540."""

    embedding: str
    """Column of an embedding signal, such as `clip_image_embedding` or `clip_text_embedding`."""
    similarity: float = Field(default=0.95, gt=0, le=1)
    """Least cosine similarity. It means something for one model and corpus only: look at pairs before you choose."""
    clusters: int | Literal["auto"] = "auto"
    """Clusters of k-means; only vectors of one cluster are compared. auto: the square root of their number when
    the centroids are fitted. That happens once: a pool that grows keeps them until this or `seed` changes."""
    iterations: int = Field(default=10, ge=1, le=100)
    """Rounds of k-means over a sample of at most 256 vectors a cluster."""
    seed: int = 0

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if isinstance(self.clusters, int) and self.clusters < 1:
            raise ValueError(f"clusters: {self.clusters} must be at least 1, or auto")
        return self
