"""NormSim: how near a picture is to a target set."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.signal import ColumnSignal, Level, as_table
from curation.similarity import tiles, unit_vectors
from curation.target_sets import TargetFile, load_targets, target_digest


class NormSim(ColumnSignal):
    """The p-norm of the cosines of a text's picture with all pictures of a target set.

    Column: `norm_sim`, float32: for p = inf the largest absolute cosine, 0 to 1; for p = 2 the root of the sum of
    squares, 0 to the root of the number of targets. Null without a picture's embedding. Unit: none. Model: none of its
    own; it follows the embeddings that it reads, and the target set must come from the same model. Source: Wang et al.
    2024, arXiv 2405.19547 (target: the training pictures of ImageNet-1k; p = inf or 2; the top 20% of the original
    pool are kept).
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"
    not_in_key: ClassVar[frozenset[str]] = frozenset({"target"})

    target: TargetFile
    """A file of embeddings (see `curation.target_sets`); its digest is in the key."""
    p: Literal["inf", 2] = "inf"
    name: str = "clip"
    """The `name` of the image embedding signal."""
    prefix: str = ""
    """Begins the names of table and column, so that several stand side by side."""

    def table_name(self) -> str:
        return f"{self.prefix}norm_sim"

    def key_extras(self) -> dict[str, object]:
        return {"target": target_digest(self.target)}

    def reads(self) -> tuple[str, ...]:
        return (f"{self.name}_image_embedding",)

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): pa.float32()})

    def compute(self, rows: pa.Table) -> pa.Table:
        image_ND, known = unit_vectors(rows.column(self.reads()[0]))
        image_ND = image_ND[known]
        norm_N = np.zeros(len(image_ND), np.float64)
        for chunk, _, cosines in tiles(image_ND, load_targets(self.target).vectors_MD):
            if self.p == "inf":
                norm_N[chunk] = np.maximum(norm_N[chunk], np.abs(cosines).max(axis=1))
            else:
                norm_N[chunk] += np.square(cosines, dtype=np.float64).sum(axis=1)
        value = np.zeros(len(known), np.float32)
        value[known] = np.minimum(norm_N, 1) if self.p == "inf" else np.sqrt(norm_N)
        return as_table({self.table_name(): pa.array(value, mask=~known)}, self.writes())
