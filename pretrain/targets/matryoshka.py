"""Matryoshka: another target on the first d numbers of each vector as well (arXiv:2205.13147)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Self

import torch.nn.functional as F
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from torch import Tensor, nn

from pretrain.component import parser, to_spec
from pretrain.targets.base import Encoded, HeadTarget, Reads, Target, TargetModule

if TYPE_CHECKING:
    from pretrain.columns import Column
    from pretrain.model import Model


class Matryoshka(Target):
    """Weighted sum of `target` on vectors cut to each of `dims` and made unit again. One module, so one logit scale."""

    target: Annotated[Target, BeforeValidator(parser(Target, "pretrain.targets")), PlainSerializer(to_spec)]
    dims: tuple[int, ...] = Field(min_length=1)
    weights: tuple[float, ...] | None = None
    """For each of dims; None: all 1."""

    @model_validator(mode="after")
    def _weight_for_each(self) -> Self:
        if min(self.dims) < 1 or len(set(self.dims)) != len(self.dims):
            raise ValueError(f"dims must be different numbers of at least 1, not {self.dims}")
        if self.weights is not None and len(self.weights) != len(self.dims):
            raise ValueError(f"{len(self.weights)} weights for {len(self.dims)} dims")
        kind = type(self.target).__name__
        if self.target.token_streams() or self.target.reads() != Reads():
            raise ValueError(f"target must read vectors only; {kind} reads more")
        if isinstance(self.target, HeadTarget) or self.target.momentum() is not None:
            raise ValueError(
                f"target: {kind} has a head or a memory of vectors of one width, so it cannot be cut to {self.dims}; "
                "where it holds other targets, put Matryoshka inside it"
            )
        if isinstance(self.target, Matryoshka) and max(self.target.dims) > min(self.dims):
            raise ValueError(f"target: its dims {self.target.dims} go beyond the {min(self.dims)} that it is cut to")
        return self

    def streams(self) -> tuple[str, ...]:
        return self.target.streams()

    def columns(self) -> tuple[str, ...]:
        return self.target.columns()

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        self.target.check_columns(columns)

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        weights = self.weights or (1.0,) * len(self.dims)
        return MatryoshkaLoss(self.target.build(trained_log_scale), dict(zip(self.dims, weights, strict=True)))

    def build_for(self, model: Model) -> nn.Module:
        if max(self.dims) > model.embed_dim:
            raise ValueError(f"Matryoshka: dims {self.dims} go beyond the model's embed_dim {model.embed_dim}")
        return super().build_for(model)


class MatryoshkaLoss(TargetModule):
    """The module of `Matryoshka`."""

    def __init__(self, inner: nn.Module, weights: dict[int, float]) -> None:
        super().__init__()
        self.inner, self.weights = inner, weights

    def forward(self, batch: Encoded) -> Tensor:
        total = batch.group_B.new_zeros((), dtype=next(iter(batch.vectors.values())).dtype)
        for dim, weight in self.weights.items():
            total = total + weight * self.inner(_cut(batch, dim))
        return total

    def after_step(self) -> None:
        if isinstance(self.inner, TargetModule):
            self.inner.after_step()

    def set_progress(self, done: float) -> None:
        if isinstance(self.inner, TargetModule):
            self.inner.set_progress(done)


def _cut(batch: Encoded, dim: int) -> Encoded:
    def cut(vectors: dict[str, Tensor]) -> dict[str, Tensor]:
        narrow = [f"{name} ({v.shape[1]})" for name, v in vectors.items() if v.shape[1] < dim]
        if narrow:
            raise ValueError(f"dims: {dim} is wider than the vectors of {', '.join(narrow)}")
        return {name: F.normalize(vector[:, :dim], dim=-1) for name, vector in vectors.items()}

    return dataclasses.replace(batch, vectors=cut(batch.vectors))
