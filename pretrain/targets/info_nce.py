"""InfoNCE between two streams that knows which rows belong to the same sample (CLIP, arXiv:2103.00020).

With many captions a picture, in-batch "negatives" are often captions of the same picture: they are taken out of the
softmax.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.targets.base import Encoded
from pretrain.targets.pairs import PairModule, PairTarget, by_chunks, gather_pairs, mean_over_workers


class InfoNCE(PairTarget):
    """Mean of the two cross-entropies of row r of `a` against all rows of `b`, and the other way round.

    Row c is a negative of row r only if their group ids differ; the pair itself always stays. A row all of whose
    negatives are masked has loss 0.
    """

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return InfoNCELoss(self.a, self.b, self.start_scale(trained_log_scale), self.chunk_rows)


class InfoNCELoss(PairModule):
    """The module of `InfoNCE`."""

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b)
        scale = self.log_scale.exp()

        def direction(from_BD: Tensor, to_ND: Tensor) -> Tensor:
            def losses(chosen: slice) -> Tensor:
                logits = scale * from_BD[chosen] @ to_ND.T
                logits = logits.masked_fill(rows.ignored(chosen), float("-inf"))
                return F.cross_entropy(logits, rows.own_B[chosen], reduction="none")

            return by_chunks(losses, len(from_BD), self.chunk_rows)

        losses_B = (direction(rows.a_BD, rows.b_ND) + direction(rows.b_BD, rows.a_ND)) / 2
        return mean_over_workers(losses_B, rows.counts_B, batch.weight_B)
