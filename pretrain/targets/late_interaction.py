"""FILIP: similarity of two sets of tokens, each with the best of the other side (arXiv:2111.07783, section 3.1)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.base import Tokens
from pretrain.targets.base import Encoded
from pretrain.targets.gather import gather_rows, world
from pretrain.targets.pairs import PairModule, PairTarget, by_chunks, gather_pairs, mean_over_workers


class LateInteraction(PairTarget):
    """InfoNCE over s(r, c) = mean over r's tokens of the largest dot product with a token of c.

    Padding is masked before the maximum. Siblings are no negatives. With one token a side it is InfoNCE.
    """

    reads_tokens: ClassVar[bool] = True

    chunk_rows: int | None = Field(16, ge=1)

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return LateInteractionLoss(self.a, self.b, self.start_scale(trained_log_scale), self.chunk_rows)


class LateInteractionLoss(PairModule):
    """The module of `LateInteraction`."""

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b)
        scale = self.log_scale.exp()
        a, b = batch.tokens[self.a], batch.tokens[self.b]

        def direction(mine: Tokens, others: Tokens) -> Tensor:
            everyone = gather_tokens(others)

            def losses(chosen: slice) -> Tensor:
                mask = None if mine.mask_BL is None else mine.mask_BL[chosen]
                similarity = best_matches(Tokens(mine.x_BLW[chosen], mask), everyone)
                logits = (scale * similarity).masked_fill(rows.ignored(chosen), float("-inf"))
                return F.cross_entropy(logits, rows.own_B[chosen], reduction="none")

            return by_chunks(losses, len(mine.x_BLW), self.chunk_rows)

        return mean_over_workers((direction(a, b) + direction(b, a)) / 2, rows.counts_B, batch.weight_B)


def best_matches(mine: Tokens, others: Tokens) -> Tensor:
    """(rows of mine, rows of others): mean over my tokens of the best dot product with the other's tokens."""
    dots_BNLK = torch.einsum("bld,nkd->bnlk", mine.x_BLW, others.x_BLW)
    if others.mask_BL is not None:
        dots_BNLK = dots_BNLK.masked_fill(~others.mask_BL[None, :, None, :], float("-inf"))
    best_BNL = dots_BNLK.amax(dim=3)
    if mine.mask_BL is None:
        return best_BNL.mean(dim=2)
    mask_B1L = mine.mask_BL[:, None, :]
    return best_BNL.masked_fill(~mask_B1L, 0.0).sum(dim=2) / mask_B1L.sum(dim=2)


def gather_tokens(mine: Tokens) -> Tokens:
    """Tokens of all workers, padded to the longest."""
    if world()[1] == 1:
        return mine
    mask_BL = mine.mask_BL
    if mask_BL is None:
        mask_BL = torch.ones(mine.x_BLW.shape[:2], dtype=torch.bool, device=mine.x_BLW.device)
    longest = torch.tensor(mask_BL.shape[1], device=mask_BL.device)
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    missing = int(longest) - mask_BL.shape[1]
    x_BLW = F.pad(mine.x_BLW, (0, 0, 0, missing))
    mask_NL = gather_rows(F.pad(mask_BL, (0, missing)).long()).bool()
    num_rows = len(x_BLW)
    return Tokens(gather_rows(x_BLW.reshape(num_rows, -1)).reshape(-1, int(longest), x_BLW.shape[2]), mask_NL)
