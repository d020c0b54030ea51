"""Scorers in signals: image-text models loaded once per process, and what their embeddings look like in a table."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa

from curation.models import Scorer, load_scorer

DEFAULT_SCORER = "pretrain.embed.TwoTowerScorer"
UNTRAINED = "run:"
"""How a recipe names the model that one of its rounds trains, until the round has run."""


@lru_cache(maxsize=4)
def cached_scorer(scorer: str, model: str) -> Scorer:
    """The scorer of class `scorer` (import path) for `model`, made once per process."""
    return load_scorer(scorer, model=model)


def embedding_type(scorer: str, model: str) -> pa.DataType:
    """The column type of a model's embeddings; of unknown length while the model is not trained yet."""
    if model.startswith(UNTRAINED):
        return pa.list_(pa.float16())
    return pa.list_(pa.float16(), cached_scorer(scorer, model).embed_dim)


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
