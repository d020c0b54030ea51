"""Several targets whose pulls on a shared stream do not cancel: where two gradients conflict, each loses its part along
the other (PCGrad, arXiv:2001.06782; for modalities: Cross-Modality Gradient Harmonization, arXiv:2211.02077).

Gradients are compared where the targets part: at a stream's vectors, not at every weight. Shape suffixes: B rows, D
common dimension.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
import torch.distributed as dist
from pydantic import BeforeValidator, PlainSerializer, model_validator
from torch import Tensor, nn

from pretrain.component import parser, to_spec
from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, Reads, Target, TargetModule
from pretrain.targets.gather import world

if TYPE_CHECKING:
    from pretrain.columns import Column

_Target = Annotated[Target, BeforeValidator(parser(Target, "pretrain.targets")), PlainSerializer(to_spec)]


class Harmonised(HeadTarget):
    """The sum of two `targets` on vectors. The forward value is a plain sum; only gradients are realigned.

    Curriculum of the second paper (rows or steps whose gradients conflict too much are left out) is not built: its
    thresholds are not published in full.
    """

    targets: tuple[_Target, _Target]

    @model_validator(mode="after")
    def _vectors_only(self) -> Self:
        for target in self.targets:
            if target.token_streams() or target.reads() != Reads() or target.momentum() is not None:
                raise ValueError(f"targets must read vectors only; {type(target).__name__} reads more")
        return self

    def streams(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for target in self.targets for name in target.streams()))

    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for target in self.targets for name in target.columns()))

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        for target in self.targets:
            target.check_columns(columns)

    def build_for(self, model: Model) -> nn.Module:
        return HarmonisedLoss(nn.ModuleList(target.build_for(model) for target in self.targets))


class HarmonisedLoss(TargetModule):
    """The module of `Harmonised`."""

    def __init__(self, inner: nn.ModuleList) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, batch: Encoded) -> Tensor:
        pairs: dict[str, tuple[Tensor, Tensor]] = {name: _Part.apply(vector) for name, vector in batch.vectors.items()}
        first, second = (
            module(dataclasses.replace(batch, vectors={name: pair[side] for name, pair in pairs.items()}))
            for side, module in enumerate(self.inner)
        )
        total: Tensor = first + second
        return total

    def after_step(self) -> None:
        for module in self.inner:
            if isinstance(module, TargetModule):
                module.after_step()

    def set_progress(self, done: float) -> None:
        for module in self.inner:
            if isinstance(module, TargetModule):
                module.set_progress(done)


class _Part(torch.autograd.Function):
    """Forward: the vectors twice. Backward: the sum of the realigned gradients of the two."""

    @staticmethod
    def forward(ctx: Any, vector_BD: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG004
        return vector_BD.clone(), vector_BD.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004
        first, second = realign(grads[0], grads[1])
        return first + second


def realign(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both gradients; where their dot product (over the rows of all workers) is negative, each without its part along
    the other, so that the dot product of each with the other's original is 0."""
    products = torch.stack([(first * second).sum(), first.square().sum(), second.square().sum()])
    if world()[1] > 1:
        dist.all_reduce(products)
    dot, square_first, square_second = products.unbind()
    if bool(dot >= 0):
        return first, second
    return first - dot / square_second * second, second - dot / square_first * first
