"""Small networks on stored embeddings: a score for every picture without touching a picture.

Shapes: N rows, D dimensions.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import model_validator

from curation.file_digest import known_digest
from curation.signal import ColumnSignal, Level, as_table
from curation.similarity import unit_vectors

Layer = tuple[np.ndarray, np.ndarray]
"""float32 weight (out, in) and bias (out)."""


@lru_cache(maxsize=4)
def read_layers(path: Path) -> tuple[Layer, ...]:
    """Linear layers of a `.npz` or `.safetensors` file: `<name>.weight` (out, in) and `<name>.bias` (out), in the order
    of the numbers in their names; `weight` and `bias` alone are one layer. Raises ValueError naming what does not fit.

    LAION's aesthetic predictor V2 (`layers.0.weight` 1024 x 768 ... `layers.7.weight` 1 x 16) and V1 (`weight` 1 x 768)
    have this layout once their pickled files are saved as safetensors; nothing is unpickled here.
    """
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            stored = {name: np.asarray(file[name], np.float32) for name in file.files}
    elif path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        stored = {name: np.asarray(value, np.float32) for name, value in load_file(path).items()}
    else:
        raise ValueError(f"{path} is neither .npz nor .safetensors (a pickle could run code: convert it first)")
    prefixes = sorted({name.rpartition("weight")[0] for name in stored if name.endswith("weight")}, key=_number)
    layers = []
    width: int | None = None
    for prefix in prefixes:
        weight, bias = stored[f"{prefix}weight"], stored.get(f"{prefix}bias")
        if weight.ndim != 2 or bias is None or bias.shape != weight.shape[:1] or width not in (None, weight.shape[1]):
            raise ValueError(f"{path}: the layer {prefix or '(unnamed)'} with weight {weight.shape} does not fit")
        layers.append((weight, bias))
        width = weight.shape[0]
    if width != 1:
        raise ValueError(f"{path}: the last layer must give one number, not {width}; it holds {sorted(stored)}")
    return tuple(layers)


def _number(prefix: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", prefix)]


class EmbeddingHead(ColumnSignal):
    """Base of the signals that a head computes from an image embedding; subclasses name the column."""

    level: ClassVar[Level] = "media"
    not_in_key: ClassVar[frozenset[str]] = frozenset({"weights"})
    column: ClassVar[str]
    """The column that it writes, which is its table's name too."""
    is_probability: ClassVar[bool] = False
    """Whether a logistic function follows the last layer."""

    name: str = "clip"
    """The `name` of the embedding signal; the head belongs to just that model."""
    weights: Path
    """`.npz` or `.safetensors`, see `curation.heads.read_layers`."""
    activation: Literal["none", "relu"] = "none"
    """Between the layers."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if not self.weights.is_file():
            raise ValueError(f"weights: there is no file {self.weights}")
        read_layers(self.weights)
        return self

    def key_extras(self) -> dict[str, object]:
        return {"weights": known_digest(self.weights)}

    def table_name(self) -> str:
        return self.column

    def reads(self) -> tuple[str, ...]:
        return (f"{self.name}_image_embedding",)

    def writes(self) -> pa.Schema:
        return pa.schema({self.column: pa.float32()})

    def compute(self, rows: pa.Table) -> pa.Table:
        x_ND, present_N = unit_vectors(rows.column(self.reads()[0]))
        layers = read_layers(self.weights)
        if present_N.any() and x_ND.shape[1] != layers[0][0].shape[1]:
            raise ValueError(
                f"{self.weights} wants {layers[0][0].shape[1]} dimensions, {self.name} has {x_ND.shape[1]}"
            )
        scores = np.full(len(x_ND), np.nan, np.float32)
        if present_N.any():
            x = x_ND[present_N]
            for position, (weight, bias) in enumerate(layers):
                if position and self.activation == "relu":
                    x = np.maximum(x, 0)
                # not a matrix product, whose last bits depend on how many rows there are
                x = np.stack([(x * row).sum(axis=1) + shift for row, shift in zip(weight, bias, strict=True)], axis=1)
            scores[present_N] = 1 / (1 + np.exp(-x[:, 0])) if self.is_probability else x[:, 0]
        return as_table({self.column: pa.array(scores, pa.float32(), mask=~present_N)}, self.writes())
