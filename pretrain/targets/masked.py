"""What masked modelling of texts, pictures or both has in common. Shape suffixes: B rows, L tokens, W width.

A stream's tokens are masked once a step, for all targets that ask for them; the loss is taken at masked places only.
"""

from __future__ import annotations

from abc import ABC
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from pretrain.embeddings.base import Tokens
from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, Reads, hidden, masked, truth
from pretrain.targets.pairs import mean_over_workers

_EPSILON = 1e-6
"""Added to the variance of a patch's pixels before its root is taken (MAE's released code)."""


class MaskedStream(HeadTarget, ABC):
    """Base of targets that guess the hidden tokens of one stream. given: streams that the fusion shows beside it,
    whole; none: the stream's encoder alone. rate: share of the tokens that is hidden; at 0 the loss is 0."""

    stream: str
    given: tuple[str, ...] = ()
    rate: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _not_itself(self) -> Self:
        if self.stream in self.given:
            raise ValueError(f"given: {self.stream!r} is what is masked; shown whole, it would give the answer")
        return self

    def streams(self) -> tuple[str, ...]:
        return ()

    def reads(self) -> Reads:
        fused = (self.stream,) if self.given else ()
        return Reads(hidden=self.given, masked={self.stream: self.rate}, fused=fused)

    def width_of(self, model: Model) -> int:
        """Width of the tokens that the head reads."""
        return width_seen(model, self.stream, self.given, is_fused=False)


class WordHead(nn.Module):
    """From a token's vector to scores of all token numbers: dense, GELU, norm, scores (BERT, arXiv:1810.04805)."""

    def __init__(self, width: int, vocabulary_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, vocabulary_size)
        nn.init.normal_(self.scores.weight, std=width**-0.5)
        nn.init.zeros_(self.scores.bias)

    def forward(self, x_BLW: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.norm(F.gelu(self.dense(x_BLW))))
        return scores


def width_seen(model: Model, stream: str, given: tuple[str, ...], is_fused: bool) -> int:
    """Width of the tokens that a head reads: the fusion's, or the encoder's where nothing is fused."""
    joint = model.parts()
    if not (given or is_fused):
        return model.hidden_width(stream)
    if joint is None or joint.fusion_width is None:
        raise ValueError(f"masked {stream} given {given or 'itself'} needs a model with a fusion")
    return joint.fusion_width


def tokens_with_context(batch: Encoded, stream: str, given: tuple[str, ...]) -> Tokens:
    """The masked stream's tokens, which have seen the `given` streams, whole, through the fusion."""
    own = batch.tokens[masked(stream)]
    if not given:
        return own
    return batch.fuse({stream: own, **{name: batch.tokens[hidden(name)] for name in given}}).tokens[stream]


def word_loss(batch: Encoded, stream: str, scores_BLV: Tensor, counts_B: Tensor) -> Tensor:
    """Mean over the masked tokens of all workers of -log p(token); 0 where none is masked."""
    length = scores_BLV.shape[1]
    mask_BL = batch.columns[masked(stream)][:, :length] & counts_B[:, None]
    number_BL = batch.columns[truth(stream)][:, :length]
    losses_BL = F.cross_entropy(scores_BLV.flatten(0, 1), number_BL.flatten(), reduction="none").view_as(number_BL)
    return mean_over_workers(losses_BL, mask_BL, _spread(batch, losses_BL))


def patch_loss(batch: Encoded, stream: str, pixels_BLP: Tensor, counts_B: Tensor) -> Tensor:
    """Mean over the masked patches of all workers of the squared error against their own normalised pixels."""
    mask_BL = batch.columns[masked(stream)] & counts_B[:, None]
    wanted_BLP = batch.columns[truth(stream)]
    mean_BL1, variance_BL1 = wanted_BLP.mean(dim=-1, keepdim=True), wanted_BLP.var(dim=-1, keepdim=True)
    wanted_BLP = (wanted_BLP - mean_BL1) / (variance_BL1 + _EPSILON).sqrt()
    losses_BL = (pixels_BLP - wanted_BLP).square().mean(dim=-1)
    return mean_over_workers(losses_BL, mask_BL, _spread(batch, losses_BL))


def _spread(batch: Encoded, losses_BL: Tensor) -> Tensor | None:
    return None if batch.weight_B is None else batch.weight_B[:, None].expand_as(losses_BL)


def nothing(batch: Encoded) -> Tensor:
    """The loss of a batch without any masked token: 0."""
    return torch.zeros((), device=batch.group_B.device)
