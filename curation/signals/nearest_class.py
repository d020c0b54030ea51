"""Nearest class: which class of an evaluation a picture is nearest to, and how near."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.signal import ColumnSignal, Level, as_table
from curation.similarity import nearest, unit_vectors
from curation.target_sets import TargetFile, load_targets, target_digest


class NearestClass(ColumnSignal):
    """The item of a target set with the largest cosine to the picture: zero-shot classification, if the items are
    embeddings of class names; the nearest evaluation picture, if they are those of pictures.

    Columns: `nearest_class`, the item's label, or its place in the file where the file has no labels; the first of
    equals; `nearest_class_similarity`, float32, -1 to 1. Null without a picture's embedding. Unit: none. Model: none of
    its own; it follows the embeddings that it reads, and the target set must come from the same model.
    Source: CLIP, arXiv 2103.00020, section 3.1.
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "media"
    not_in_key: ClassVar[frozenset[str]] = frozenset({"target"})

    target: TargetFile
    """A file of embeddings with labels (see `curation.target_sets`); its digest is in the key."""
    name: str = "clip"
    """The `name` of the image embedding signal."""
    prefix: str = ""
    """Begins the names of table and columns, so that several stand side by side."""

    def table_name(self) -> str:
        return f"{self.prefix}nearest_class"

    def key_extras(self) -> dict[str, object]:
        return {"target": target_digest(self.target)}

    def reads(self) -> tuple[str, ...]:
        return (f"{self.name}_image_embedding",)

    def writes(self) -> pa.Schema:
        table = self.table_name()
        return pa.schema({table: pa.string(), f"{table}_similarity": pa.float32()})

    def compute(self, rows: pa.Table) -> pa.Table:
        image_ND, known = unit_vectors(rows.column(self.reads()[0]))
        targets = load_targets(self.target)
        index_N, cosine_N = nearest(image_ND[known], targets.vectors_MD)
        labels = targets.labels or tuple(str(i) for i in range(len(targets.vectors_MD)))
        found = iter(index_N.tolist())
        similarity = np.zeros(len(known), np.float32)
        similarity[known] = np.clip(cosine_N, -1, 1)
        name, similarity_name = self.writes().names
        return as_table(
            {
                name: [labels[next(found)] if each else None for each in known],
                similarity_name: pa.array(similarity, mask=~known),
            },
            self.writes(),
        )
