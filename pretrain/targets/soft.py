"""Targets that are not one-hot: weights from embeddings (CWCL) and all rows of a group (SDM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.targets.base import Encoded, check_vectors
from pretrain.targets.gather import gather_rows
from pretrain.targets.pairs import PairModule, PairTarget, by_chunks, gather_pairs, mean_over_workers

if TYPE_CHECKING:
    from pretrain.columns import Column

_SDM_EPSILON = 1e-8
"""Of the released code: mass on rows that are no members is penalised with log(1e-8)."""


class ContinuouslyWeighted(PairTarget):
    """CWCL (arXiv:2309.14580): from `a` to `b` every row is a positive with weight (1 + cos)/2; back it is InfoNCE.

    The cosine is that of the rows' vectors in `weights_from`: a column with a stored embedding, or, where that is None,
    the stream `b` itself, which then should be frozen (its gradient does not flow through the weights). Siblings are
    left out.
    """

    weights_from: str | None = None

    def columns(self) -> tuple[str, ...]:
        return () if self.weights_from is None else (self.weights_from,)

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        check_vectors(columns, *self.columns())

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return ContinuouslyWeightedLoss(
            self.a, self.b, self.start_scale(trained_log_scale), self.chunk_rows, self.weights_from
        )


class ContinuouslyWeightedLoss(PairModule):
    """The module of `ContinuouslyWeighted`."""

    def __init__(self, a: str, b: str, log_scale: float, chunk_rows: int | None, weights_from: str | None) -> None:
        super().__init__(a, b, log_scale, chunk_rows)
        self.weights_from = weights_from

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b, *([self.weights_from] if self.weights_from else []))
        frozen_BD = rows.b_BD if self.weights_from is None else F.normalize(batch.columns[self.weights_from], dim=-1)
        frozen_BD = frozen_BD.detach()
        frozen_ND = gather_rows(frozen_BD)
        scale = self.log_scale.exp()

        def soft(chosen: slice) -> Tensor:
            ignored = rows.ignored(chosen)
            weights = ((1 + frozen_BD[chosen] @ frozen_ND.T) / 2).clamp(min=0).masked_fill(ignored, 0.0)
            return soft_cross_entropy(scale * rows.a_BD[chosen] @ rows.b_ND.T, weights, ignored)

        def hard(chosen: slice) -> Tensor:
            logits = (scale * rows.b_BD[chosen] @ rows.a_ND.T).masked_fill(rows.ignored(chosen), float("-inf"))
            return F.cross_entropy(logits, rows.own_B[chosen], reduction="none")

        losses_B = by_chunks(soft, len(frozen_BD), self.chunk_rows) + by_chunks(hard, len(frozen_BD), self.chunk_rows)
        return mean_over_workers(losses_B / 2, rows.counts_B, batch.weight_B)


def soft_cross_entropy(logits: Tensor, weights: Tensor, ignored: Tensor) -> Tensor:
    """(rows,): -sum_j w_j log softmax(logits)_j / sum_j w_j, over the columns that are not ignored."""
    log_probability = F.log_softmax(logits.masked_fill(ignored, float("-inf")), dim=1).masked_fill(ignored, 0.0)
    return -(weights * log_probability).sum(dim=1) / weights.sum(dim=1)


class SimilarityDistribution(PairTarget):
    """SDM (IRRA, arXiv:2303.12501): KL(p || q), p = softmax of the row's logits, q even over all rows of its group.

    Both directions are added, as released (`model/objectives.py`); here siblings are positives.
    """

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return SimilarityDistributionLoss(self.a, self.b, self.start_scale(trained_log_scale), self.chunk_rows)


class SimilarityDistributionLoss(PairModule):
    """The module of `SimilarityDistribution`."""

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b)
        scale = self.log_scale.exp()

        def direction(from_BD: Tensor, to_ND: Tensor) -> Tensor:
            def losses(chosen: slice) -> Tensor:
                absent = rows.absent(chosen)
                log_p = F.log_softmax((scale * from_BD[chosen] @ to_ND.T).masked_fill(absent, float("-inf")), dim=1)
                member = (rows.group_B[chosen, None] == rows.group_N[None, :]) & ~absent
                q = member / member.sum(dim=1, keepdim=True)
                difference = (log_p - torch.log(q + _SDM_EPSILON)).masked_fill(absent, 0.0)
                return (log_p.exp() * difference).sum(dim=1)

            return by_chunks(losses, len(from_BD), self.chunk_rows)

        losses_B = direction(rows.a_BD, rows.b_ND) + direction(rows.b_BD, rows.a_ND)
        return mean_over_workers(losses_B, rows.counts_B, batch.weight_B)
