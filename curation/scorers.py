"""Scorers in signals: image-text models loaded once per process, and what their embeddings look like in a table."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.models import Scorer, SoundScorer, load_scorer, load_sound_scorer
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

    not_in_key: ClassVar[frozenset[str]] = frozenset({"model", "scorer", "compiled", "space"})

    name: str = "clip"
    """Begins the column's name, so that several models stand side by side."""
    model: str
    """Which model: what the scorer takes, such as the folder of a training run, or `ViT-B-32/openai`."""
    scorer: str = DEFAULT_SCORER
    """Import path of the class that loads it (see `curation.models.load_scorer`)."""
    precision: Precision = "auto"
    compiled: bool = False
    """Whether the towers go through `torch.compile`: worth its minute on a GPU and a large pool."""
    space: str | None = None
    """What the space of its vectors is called, where another model was trained into the same one. Vectors of two
    models are compared only where both say the same name (`pipelines.space_checks`)."""

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


@lru_cache(maxsize=2)
def cached_sound_scorer(scorer: str, model: str) -> SoundScorer:
    """The scorer of sounds of class `scorer` (import path) for `model`, made once per process."""
    return load_sound_scorer(scorer, model=model)


class SoundModelFields(Step):
    """What a recipe says of the model behind embeddings of sounds and of texts about sounds."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"model", "scorer", "space"})

    name: str = "clap"
    """Begins the column's name, so that several models stand side by side."""
    model: str
    """Which model: what the scorer takes, such as the folder of a checkpoint of `transformers`, a `.pt` file of LAION's
    code, or `laion/clap-htsat-unfused`."""
    scorer: str = "pretrain.clap.ClapScorer"
    """Import path of the class that loads it (see `curation.models.load_sound_scorer`)."""
    space: str | None = None
    """As of `ModelFields`."""

    def key_extras(self) -> dict[str, object]:
        return {"weights": self.loaded().weights_digest}

    def needs_model(self) -> bool:
        return True

    def loaded(self) -> SoundScorer:
        """The model, loaded at the first call in a process."""
        return cached_sound_scorer(self.scorer, self.model)

    def embedding_type(self) -> pa.DataType:
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


def cosines(rows: pa.Table, one: str, other: str) -> pa.Array:
    """float32 cosine (-1 to 1) of two columns of embeddings; null where either is, or is not finite, or zero.

    Raises ValueError where they have not the same length.
    """
    a_ND, has_a = embedding_matrix(rows.column(one))
    b_ND, has_b = embedding_matrix(rows.column(other))
    if a_ND.shape != b_ND.shape:
        raise ValueError(f"embeddings of {a_ND.shape[1]} and {b_ND.shape[1]} dimensions: not of one model")
    # float16 moves norms by up to 5e-4, which would show as cosines above 1.
    norms = np.linalg.norm(a_ND, axis=1) * np.linalg.norm(b_ND, axis=1)
    known = has_a & has_b & np.isfinite(norms) & (norms > 0)
    dots = (a_ND * b_ND).sum(axis=1)
    cosine = np.clip(np.divide(dots, norms, out=np.zeros_like(dots), where=known), -1.0, 1.0)
    return pa.array(cosine, pa.float32(), mask=~known)
