"""InfoNCE between two streams that knows which rows belong to the same sample (CLIP, arXiv:2103.00020).

With many captions a picture, in-batch "negatives" are often captions of the same picture: they are taken out of the
softmax. Shape suffixes: B rows of this worker, N rows of all workers, D common dimension.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from pretrain.targets.base import Encoded, Target, TargetModule
from pretrain.targets.gather import gather_rows, world

INITIAL_LOG_SCALE = math.log(1 / 0.07)
MAX_LOG_SCALE = math.log(100)
"""Start and ceiling of the logarithm of the logit scale (CLIP, section 2.5)."""


class InfoNCE(Target):
    """Mean of the two cross-entropies of row r of `a` against all rows of `b`, and the other way round.

    Row c is a negative of row r only if their group ids differ; the pair itself always stays. A row all of whose
    negatives are masked has loss 0. The logit scale is learned in [1, 100], without weight decay.
    """

    a: str = "image"
    b: str = "text"
    log_scale: float = Field(INITIAL_LOG_SCALE, ge=0, le=MAX_LOG_SCALE)

    @model_validator(mode="after")
    def _two_streams(self) -> InfoNCE:
        if self.a == self.b:
            raise ValueError(f"a and b must be two streams, both are {self.a!r}")
        return self

    def streams(self) -> tuple[str, ...]:
        return (self.a, self.b)

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        start = self.log_scale if trained_log_scale is None else min(max(trained_log_scale, 0.0), MAX_LOG_SCALE)
        return InfoNCELoss(self.a, self.b, start)


class InfoNCELoss(TargetModule):
    """The module of `InfoNCE`."""

    def __init__(self, a: str, b: str, log_scale: float) -> None:
        super().__init__()
        self.a, self.b = a, b
        self.log_scale = nn.Parameter(torch.tensor(log_scale))

    def forward(self, batch: Encoded) -> Tensor:
        a_BD, b_BD, group_B = batch.vectors[self.a], batch.vectors[self.b], batch.group_B
        a_ND, b_ND, group_N = gather_rows(a_BD), gather_rows(b_BD), gather_rows(group_B)
        own_B = torch.arange(len(group_B), device=group_B.device) + world()[0] * len(group_B)
        sibling_BN = group_B[:, None] == group_N[None, :]
        sibling_BN[torch.arange(len(own_B), device=own_B.device), own_B] = False
        scale = self.log_scale.exp()

        def direction(from_BD: Tensor, to_ND: Tensor) -> Tensor:
            logits_BN = (scale * from_BD @ to_ND.T).masked_fill(sibling_BN, float("-inf"))
            return F.cross_entropy(logits_BN, own_B)

        return (direction(a_BD, b_ND) + direction(b_BD, a_ND)) / 2

    @torch.no_grad()
    def after_step(self) -> None:
        self.log_scale.clamp_(0.0, MAX_LOG_SCALE)
