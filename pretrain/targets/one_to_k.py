"""1-to-K: one picture and its captions in K languages, all of them positives (CCRK, arXiv:2406.18254)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.targets.base import Encoded
from pretrain.targets.pairs import PairModule, PairTarget, by_chunks, gather_pairs, mean_over_workers


class OneToK(PairTarget):
    """InfoNCE in which the captions of a picture compete as its positives, instead of not being seen.

    With K rows a group, the gradient on the logit of a picture and one of its captions is K p - 1 (over the number of
    rows): it pulls while p < 1/K. A caption meets each other picture, and its own once. K = 1 is InfoNCE.
    as_released: the published code divides the direction from caption to picture, a mean already, by K again.
    """

    as_released: bool = False

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return OneToKLoss(self.a, self.b, self.start_scale(trained_log_scale), self.chunk_rows, self.as_released)


class OneToKLoss(PairModule):
    """The module of `OneToK`."""

    def __init__(self, a: str, b: str, log_scale: float, chunk_rows: int | None, as_released: bool) -> None:
        super().__init__(a, b, log_scale, chunk_rows)
        self.as_released = as_released

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b)
        scale = self.log_scale.exp()

        def one_to_k(chosen: slice) -> Tensor:
            logits = (scale * rows.a_BD[chosen] @ rows.b_ND.T).masked_fill(rows.absent(chosen), float("-inf"))
            return F.cross_entropy(logits, rows.own_B[chosen], reduction="none")

        again_N = _is_again(rows.group_N, rows.counts_N)

        def k_to_one(chosen: slice) -> Tensor:
            ignored = rows.but_own(rows.ignored(chosen) | again_N, chosen)  # each other picture once
            logits = (scale * rows.b_BD[chosen] @ rows.a_ND.T).masked_fill(ignored, float("-inf"))
            return F.cross_entropy(logits, rows.own_B[chosen], reduction="none")

        a_B = by_chunks(one_to_k, len(rows.a_BD), self.chunk_rows)
        b_B = by_chunks(k_to_one, len(rows.a_BD), self.chunk_rows)
        if self.as_released:
            _, inverse_N = torch.unique(rows.group_N, return_inverse=True)
            k_N = torch.bincount(inverse_N, weights=rows.counts_N.float())[inverse_N]
            b_B = b_B / k_N[rows.own_B].clamp(min=1)
        return mean_over_workers((a_B + b_B) / 2, rows.counts_B, batch.weight_B)


def _is_again(group_N: Tensor, counts_N: Tensor) -> Tensor:
    """bool (N,): rows whose group has an earlier row that counts."""
    _, inverse = torch.unique(group_N, return_inverse=True)
    place_N = torch.arange(len(group_N), device=group_N.device)
    last = torch.full_like(place_N, len(group_N))
    first = last.scatter_reduce(0, inverse, torch.where(counts_N, place_N, last), "amin")
    return place_N > first[inverse]
