"""Scorers in signals: image-text models loaded once per process, and what their embeddings look like in a table."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.models import Scorer, load_scorer
from curation.step import Step

DEFAULT_SCORER = "pretrain.embed.TwoTowerScorer"
UNTRAINED = "run:"
"""How a recipe names the model that one of its rounds trains, until the round has run."""


Precision = Literal["auto", "fp32", "bf16"]
"""Of the model's arithmetic. auto: bfloat16 on a GPU, and for open_clip models on processors that have it in hardware;
scores then differ from those in float32 by less than 0.005 (tests/benchmarks/scoring.py)."""


@lru_cache(maxsize=4)
def cached_scorer(scorer: str, model: str, precision: Precision = "auto", compiled: bool = False) -> Scorer:
    """The scorer of class `scorer` (import path) for `model`, made once per process.

    precision and compiled are passed on where they are not the default, so a scorer need not know them.
    """
    fields: dict[str, object] = {} if precision == "auto" else {"precision": precision}
    fields |= {"compiled": True} if compiled else {}
    return load_scorer(scorer, model=model, **fields)


class ModelFields(Step):
    """What a recipe says of the model behind an embedding; the base of the embedding signals."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"model", "scorer", "compiled"})

    name: str = "clip"
    """Begins the column's name, so that several models stand side by side."""
    model: str
    """Which model: what the scorer takes, such as the folder of a training run, or `ViT-B-32/openai`."""
    scorer: str = DEFAULT_SCORER
    """Import path of the class that loads it (see `curation.models.load_scorer`)."""
    precision: Precision = "auto"
    compiled: bool = False
    """Whether the towers go through `torch.compile`: worth its minute on a GPU and a large pool."""

    def key_extras(self) -> dict[str, object]:
        return {"weights": self.loaded().weights_digest}

    def needs_model(self) -> bool:
        return True

    def loaded(self) -> Scorer:
        """The model, loaded at the first call in a process."""
        return cached_scorer(self.scorer, self.model, self.precision, self.compiled)

    def embedding_type(self) -> pa.DataType:
        """The column type of the model's embeddings; of unknown length while the model is not trained yet."""
        if self.model.startswith(UNTRAINED):
            return pa.list_(pa.float16())
        return pa.list_(pa.float16(), self.loaded().embed_dim)


def embedding_array(embeddings_ND: np.ndarray, present_N: np.ndarray) -> pa.FixedSizeListArray:
    """float16 fixed-size lists of the rows, null where `present_N` (bool) is False."""
    flat = pa.array(np.ascontiguousarray(embeddings_ND, dtype=np.float16).ravel(), pa.float16())
    return pa.FixedSizeListArray.from_arrays(flat, embeddings_ND.shape[1], mask=pa.array(~present_N))


def embedding_matrix(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (N, D) of a column of fixed-size lists, zero where null, and bool (N): where it is not.

    Raises ValueError where the rows are not all of one length.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    present_N = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_list(array.type):
        width = array.type.list_size
    else:  # as SQL engines hand them back
        lengths = {len(row) for row in array if row.is_valid}
        if len(lengths) > 1:
            raise ValueError(f"embeddings of different lengths in one column: {sorted(lengths)}")
        width = lengths.pop() if lengths else 0
    embeddings_ND = np.zeros((len(array), width), np.float32)
    embeddings_ND[present_N] = array.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return embeddings_ND, present_N
