"""Rows weighted or admitted by a column: levels (AlignGPT, arXiv:2405.14129) and curricula (thresholds that move).

Levels come from quantiles of a score: SQL makes the column, this file uses it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from pretrain.model import Model
from pretrain.targets.base import Encoded, check_whole, of_width
from pretrain.targets.nested import NestedModule, NestedTarget

if TYPE_CHECKING:
    from pretrain.columns import Column


class Graded(NestedTarget):
    """`target` with rows that count by `column`, and only once they are admitted.

    weights: weight of each level 0, 1, ... where the column holds levels; None: the column is the weight itself
    (at least 0). admit_from, admit_to: rows count whose column is at least a threshold, which moves evenly from the one
    to the other over training: downwards, easy (well aligned) rows come first. Rows without a value do not count. Rows
    that do not count are no negatives either.
    """

    column: str
    weights: tuple[float, ...] | None = None
    weighted: bool = True
    admit_from: float | None = None
    admit_to: float | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.admit_from is None) != (self.admit_to is None):
            raise ValueError("give both admit_from and admit_to, or neither")
        if self.weights is not None and (min(self.weights) < 0 or max(self.weights) == 0):
            raise ValueError(f"weights must be 0 or more, and not all 0: {self.weights}")
        if not self.weighted and self.admit_from is None:
            raise ValueError("neither weighted nor admitted by the column: nothing is left of it")
        return self

    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.target.columns(), self.column)))

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        super().check_columns(columns)
        column = columns[self.column]
        numbers = column.values[column.present]
        if column.width is not None:
            raise ValueError(f"{self.column!r} holds {of_width(column.width)}, no single number")
        if self.admit_from is not None and self.admit_to is not None:
            lowest = min(self.admit_from, self.admit_to)
            if not (numbers >= lowest).any():
                largest = f"at most {numbers.max():g}" if len(numbers) else "nothing"
                raise ValueError(f"{self.column!r} holds {largest}: no row is ever admitted from {lowest:g} on")
        if not self.weighted or not len(numbers):
            return
        if self.weights is not None:
            check_whole(column, self.column, "level")
        if self.weights is None and numbers.min() < 0:
            raise ValueError(f"{self.column!r} is used as a weight and holds {numbers.min()}")
        if self.weights is not None and not 0 <= numbers.min() <= numbers.max() < len(self.weights):
            raise ValueError(
                f"{self.column!r} holds levels {numbers.min():.0f} to {numbers.max():.0f}; there are weights for 0 to "
                f"{len(self.weights) - 1}"
            )

    def build_for(self, model: Model) -> nn.Module:
        return GradedLoss(self, self.target.build_for(model))


class GradedLoss(NestedModule):
    """The module of `Graded`."""

    def __init__(self, config: Graded, inner: nn.Module) -> None:
        super().__init__(inner)
        self.config = config
        self.done = 0.0

    def set_progress(self, done: float) -> None:
        super().set_progress(done)
        self.done = done

    def forward(self, batch: Encoded) -> Tensor:
        value_B = batch.columns[self.config.column]
        counts_B = batch.has(self.config.column)
        if self.config.admit_from is not None and self.config.admit_to is not None:
            threshold = self.config.admit_from + (self.config.admit_to - self.config.admit_from) * self.done
            counts_B = counts_B & (value_B >= threshold)
        weight_B = batch.weight_B
        if self.config.weighted:
            own_B = self._weight(value_B)
            weight_B = own_B if weight_B is None else weight_B * own_B
        present = {name: counts_B & batch.has(name) for name in self._streams()}
        loss: Tensor = self.inner(dataclasses.replace(batch, present={**batch.present, **present}, weight_B=weight_B))
        return loss

    def _streams(self) -> set[str]:
        """What a row must have to count: marking these as missing takes it out."""
        reads = self.config.target.reads()
        return {*self.config.target.streams(), *reads.masked, *reads.hidden}

    def _weight(self, value_B: Tensor) -> Tensor:
        if self.config.weights is None:
            if bool((value_B < 0).any()):
                raise ValueError(f"{self.config.column!r} is used as a weight and holds {float(value_B.min())}")
            return value_B
        level_B = value_B.long()
        if level_B.numel() and not 0 <= int(level_B.min()) <= int(level_B.max()) < len(self.config.weights):
            raise ValueError(
                f"{self.config.column!r} holds levels {int(level_B.min())} to {int(level_B.max())}; "
                f"there are weights for 0 to {len(self.config.weights) - 1}"
            )
        return torch.tensor(self.config.weights, device=value_B.device)[level_B]
