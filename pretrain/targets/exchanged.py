"""Captions with things exchanged as hard negatives (Structure-CLIP, arXiv:2305.06152, equations 1 and 2)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from pretrain.targets.base import Encoded, Target, TargetModule
from pretrain.targets.pairs import mean_over_workers


class Exchanged(Target):
    """Hinge: a picture is nearer to its caption than to the same words with another meaning, by `margin` in cosine.

    max(0, margin - cos(a, b) + cos(a, negative)), beside InfoNCE. negative: the stream of exchanged captions
    (`source: texts.caption_negatives`, made by `curation.signals.caption_tags`), with the weights of `b` (`shared`).
    Rows without one do not count. The paper's margin is 0.2. A tower that sees words as a bag cannot learn it: it gives
    both texts one vector, and the loss stays at the margin.
    """

    a: str = "image"
    b: str = "text"
    negative: str = "negative"
    margin: float = Field(0.2, gt=0, le=2)

    @model_validator(mode="after")
    def _three_streams(self) -> Self:
        if len({self.a, self.b, self.negative}) < 3:
            raise ValueError(f"a, b and negative must be three streams, they are {self.a}, {self.b}, {self.negative}")
        return self

    def streams(self) -> tuple[str, ...]:
        return (self.a, self.b, self.negative)

    def build(self, trained_log_scale: float | None = None) -> nn.Module:  # noqa: ARG002
        return ExchangedLoss(self)


class ExchangedLoss(TargetModule):
    """The module of `Exchanged`."""

    def __init__(self, config: Exchanged) -> None:
        super().__init__()
        self.a, self.b, self.negative, self.margin = config.a, config.b, config.negative, config.margin

    def forward(self, batch: Encoded) -> Tensor:
        a_BD = batch.vectors[self.a]
        right_B = (a_BD * batch.vectors[self.b]).sum(dim=1)
        wrong_B = (a_BD * batch.vectors[self.negative]).sum(dim=1)
        losses_B = (self.margin - right_B + wrong_B).clamp(min=0)
        return mean_over_workers(losses_B, batch.has(self.a, self.b, self.negative), batch.weight_B)
