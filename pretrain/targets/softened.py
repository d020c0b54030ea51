"""InfoNCE whose one-hot targets soften as training goes on (LightCLIP, arXiv:2312.00674, section 3.1)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from pretrain.targets.base import Encoded
from pretrain.targets.pairs import PairModule, PairTarget, by_chunks, gather_pairs, mean_over_workers
from pretrain.targets.soft import soft_cross_entropy


class SoftenedInfoNCE(PairTarget):
    """Targets of 1 - alpha for the pair and alpha spread evenly over its negatives; alpha grows evenly from 0.

    alpha: at the end of training. Siblings are left out. The even spread is this file's reading of "softening the label
    of negative samples progressively".
    """

    alpha: float = Field(0.2, ge=0, lt=1)

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return SoftenedInfoNCELoss(self.a, self.b, self.start_scale(trained_log_scale), self.chunk_rows, self.alpha)


class SoftenedInfoNCELoss(PairModule):
    """The module of `SoftenedInfoNCE`."""

    def __init__(self, a: str, b: str, log_scale: float, chunk_rows: int | None, alpha: float) -> None:
        super().__init__(a, b, log_scale, chunk_rows)
        self.final_alpha = alpha
        self.alpha = 0.0

    def set_progress(self, done: float) -> None:
        self.alpha = self.final_alpha * done

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b)
        scale = self.log_scale.exp()

        def direction(from_BD: Tensor, to_ND: Tensor) -> Tensor:
            def losses(chosen: slice) -> Tensor:
                ignored = rows.ignored(chosen)
                weights = soft_rows(ignored, rows.own_B[chosen], self.alpha)
                return soft_cross_entropy(scale * from_BD[chosen] @ to_ND.T, weights, ignored)

            return by_chunks(losses, len(from_BD), self.chunk_rows)

        losses_B = direction(rows.a_BD, rows.b_ND) + direction(rows.b_BD, rows.a_ND)
        return mean_over_workers(losses_B / 2, rows.counts_B, batch.weight_B)


def soft_rows(ignored: Tensor, own: Tensor, alpha: float) -> Tensor:
    """(rows, N): 1 - alpha at the pair, alpha spread over the others that are not ignored; each row sums to 1."""
    negatives = ~ignored
    negatives[range(len(own)), own] = False
    number = negatives.sum(dim=1, keepdim=True)
    spread = negatives * (alpha / number.clamp(min=1))
    spread[range(len(own)), own] = 1 - spread.sum(dim=1)
    return spread
