"""SigLIP: each pair is judged alone, by a sigmoid (arXiv:2303.15343, Algorithm 1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.targets.base import Encoded
from pretrain.targets.pairs import MAX_LOG_SCALE, PairModule, PairTarget, by_chunks, gather_pairs, mean_over_workers


class SigLIP(PairTarget):
    """Sum over the columns, mean over the rows, of -log sigmoid(y (scale a.b + bias)): y = 1 for the pair, else -1.

    Rows of one group are neither a pair nor negatives. Start: scale 10, bias -10 (section 3.2 of the paper).
    """

    log_scale: float = Field(math.log(10), ge=0, le=MAX_LOG_SCALE)
    bias: float = -10.0

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return SigLIPLoss(self.a, self.b, self.start_scale(trained_log_scale), self.bias, self.chunk_rows)


class SigLIPLoss(PairModule):
    """The module of `SigLIP`."""

    def __init__(self, a: str, b: str, log_scale: float, bias: float, chunk_rows: int | None = None) -> None:
        super().__init__(a, b, log_scale, chunk_rows)
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b)

        def losses(chosen: slice) -> Tensor:
            logits = self.log_scale.exp() * rows.a_BD[chosen] @ rows.b_ND.T + self.bias
            sign = torch.full_like(logits, -1.0)
            own = rows.own_B[chosen]
            sign[torch.arange(len(own), device=own.device), own] = 1.0
            return F.softplus(-sign * logits).masked_fill(rows.ignored(chosen), 0.0).sum(dim=1)

        return mean_over_workers(by_chunks(losses, len(rows.a_BD), self.chunk_rows), rows.counts_B, batch.weight_B)
