"""RankCLIP's ranking consistency (arXiv:2404.09387), without its InfoNCE term: add that as a target of its own."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pretrain.targets.base import Encoded
from pretrain.targets.pairs import PairModule, PairTarget, by_chunks, gather_pairs, mean_over_workers

_FAR = -1e9
"""In place of minus infinity, whose gradient through logcumsumexp is not a number."""


class RankConsistency(PairTarget):
    """ListMLE of each row's similarities under the order of their counterpart, mean over rows, divided by `divisor`.

    cross: a-to-b against b-to-a, and back. in_modal: a-to-a against b-to-b, and back. A row's siblings are not in its
    list, the row itself is. The term grows with training, by min(3 x share of steps done, 2), so it is 0 at the start.
    The released code divides by 32 and by the batch.
    """

    cross: bool = True
    in_modal: bool = True
    divisor: float = Field(32.0, gt=0)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.cross or self.in_modal):
            raise ValueError("cross and in_modal are both off: nothing is left to train")
        return self

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return RankConsistencyLoss(self, self.start_scale(trained_log_scale))


class RankConsistencyLoss(PairModule):
    """The module of `RankConsistency`."""

    def __init__(self, config: RankConsistency, log_scale: float) -> None:
        super().__init__(config.a, config.b, log_scale, config.chunk_rows)
        self.cross, self.in_modal, self.divisor = config.cross, config.in_modal, config.divisor
        self.strength = 0.0

    def set_progress(self, done: float) -> None:
        self.strength = min(3 * done, 2.0)

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b)
        scale = self.log_scale.exp()

        def losses(chosen: slice) -> Tensor:
            ignored = rows.ignored(chosen)
            counts = ~ignored

            def logits(from_BD: Tensor, to_ND: Tensor) -> Tensor:
                return (scale * from_BD[chosen] @ to_ND.T).masked_fill(ignored, _FAR)

            total = torch.zeros(len(rows.own_B[chosen]), device=rows.own_B.device)
            if self.cross:
                ab, ba = logits(rows.a_BD, rows.b_ND), logits(rows.b_BD, rows.a_ND)
                total = total + list_mle(ab, ba, counts) + list_mle(ba, ab, counts)
            if self.in_modal:
                aa, bb = logits(rows.a_BD, rows.a_ND), logits(rows.b_BD, rows.b_ND)
                total = total + list_mle(aa, bb, counts) + list_mle(bb, aa, counts)
            return total

        losses_B = by_chunks(losses, len(rows.a_BD), self.chunk_rows)
        return self.strength * mean_over_workers(losses_B, rows.counts_B, batch.weight_B) / self.divisor


def list_mle(scores: Tensor, wanted: Tensor, counts: Tensor) -> Tensor:
    """(rows,): -log of the Plackett-Luce probability of the order of `wanted` (descending) under `scores`.

    counts: bool (rows, N), columns that are in the list; `wanted` must rank the others last. No gradient flows into
    `wanted`.
    """
    order = wanted.detach().argsort(dim=1, descending=True, stable=True)
    chosen = scores.gather(1, order)
    rest = chosen.flip(1).logcumsumexp(dim=1).flip(1)
    return ((rest - chosen) * counts.gather(1, order)).sum(dim=1)
