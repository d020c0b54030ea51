"""Distillation from stored teacher embeddings (MobileCLIP, arXiv:2311.17049, equation 3): no teacher while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from pretrain.targets.base import Encoded, check_vectors
from pretrain.targets.gather import gather_rows
from pretrain.targets.pairs import PairModule, PairTarget, Rows, by_chunks, gather_pairs, mean_over_workers
from pretrain.targets.soft import soft_cross_entropy

if TYPE_CHECKING:
    from pretrain.columns import Column


class Distillation(PairTarget):
    """Cross-entropy of the model's rows with those of the teachers, both directions, averaged.

    teachers_a, teachers_b: for each teacher the column with its embedding of `a` and of `b`, in the same order. The
    teachers' softmaxes (at `teacher_scale`) are averaged. Siblings are left out of both. Released weights: 1 for this
    and 0 for InfoNCE (12 million samples); 0.75 and 0.25 (a billion).
    """

    teachers_a: tuple[str, ...] = Field(min_length=1)
    teachers_b: tuple[str, ...] = Field(min_length=1)
    teacher_scale: float = Field(100.0, gt=0)

    @model_validator(mode="after")
    def _in_pairs(self) -> Self:
        if len(self.teachers_a) != len(self.teachers_b):
            raise ValueError(f"{len(self.teachers_a)} columns in teachers_a, {len(self.teachers_b)} in teachers_b")
        return self

    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.teachers_a, *self.teachers_b)))

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        for pair in zip(self.teachers_a, self.teachers_b, strict=True):
            check_vectors(columns, *pair)

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return DistillationLoss(self, self.start_scale(trained_log_scale))


class DistillationLoss(PairModule):
    """The module of `Distillation`."""

    def __init__(self, config: Distillation, log_scale: float) -> None:
        super().__init__(config.a, config.b, log_scale, config.chunk_rows)
        self.pairs = list(zip(config.teachers_a, config.teachers_b, strict=True))
        self.teacher_scale = config.teacher_scale

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b, *(name for pair in self.pairs for name in pair))
        unit = {name: F.normalize(batch.columns[name].float(), dim=-1) for pair in self.pairs for name in pair}
        everyone = {name: gather_rows(vectors) for name, vectors in unit.items()}
        there = [(unit[a], everyone[b]) for a, b in self.pairs]
        back = [(unit[b], everyone[a]) for a, b in self.pairs]
        losses_B = self._direction(rows, rows.a_BD, rows.b_ND, there)
        losses_B = losses_B + self._direction(rows, rows.b_BD, rows.a_ND, back)
        return mean_over_workers(losses_B / 2, rows.counts_B, batch.weight_B)

    def _direction(self, rows: Rows, mine: Tensor, others: Tensor, teachers: list[tuple[Tensor, Tensor]]) -> Tensor:
        scale = self.log_scale.exp()

        def losses(chosen: slice) -> Tensor:
            ignored = rows.ignored(chosen)
            taught = [
                F.softmax((self.teacher_scale * own[chosen] @ every.T).masked_fill(ignored, float("-inf")), dim=1)
                for own, every in teachers
            ]
            return soft_cross_entropy(scale * mine[chosen] @ others.T, torch.stack(taught).mean(dim=0), ignored)

        return by_chunks(losses, len(mine), self.chunk_rows)
