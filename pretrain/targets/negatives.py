"""Drawing true negatives: rows of other groups only. Shape suffixes: B rows of this worker, N rows of all."""

from __future__ import annotations

import torch
from torch import Tensor

from pretrain.draws import uniform

_SMALLEST = 1e-7
"""Keeps the logarithms of draws finite."""


def draw_negatives(logits_BN: Tensor, allowed_BN: Tensor, own_B: Tensor, salt: int) -> tuple[Tensor, Tensor]:
    """(B,) one allowed column a row, with probability softmax(logits) over those; and bool: whether there is one.

    The largest of logit plus Gumbel noise is such a draw (Gumbel 1954). The noise is a hash of (salt, row, column)
    among all workers' rows, so that any number of workers draws the same.
    """
    column_N = torch.arange(logits_BN.shape[1], device=logits_BN.device)
    draw_BN = uniform(own_B[:, None], salt, column_N[None, :]).clamp(min=_SMALLEST)
    noise_BN = -torch.log((-torch.log(draw_BN)).clamp(min=_SMALLEST))
    scored = (logits_BN.detach() + noise_BN).masked_fill(~allowed_BN, float("-inf"))
    return scored.argmax(dim=1), allowed_BN.any(dim=1)
