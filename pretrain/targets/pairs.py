"""What targets between two streams share: the logit scale, gathered rows, which pairs count, means over all workers.

Shape suffixes of the targets: B rows of this worker, N rows of all workers, D common dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrain.targets.base import Encoded, TargetModule, TwoStreams
from pretrain.targets.gather import gather_rows, world

INITIAL_LOG_SCALE = math.log(1 / 0.07)
MAX_LOG_SCALE = math.log(100)
"""Start and ceiling of the logarithm of the logit scale (CLIP, arXiv:2103.00020, section 2.5)."""
CHUNK_ROWS = 1024
"""Rows of logits that exist at a time, if nothing is said: half a gigabyte against 131,072 others."""


class PairTarget(TwoStreams):
    """Base of targets between the streams `a` and `b`.

    The logit scale is learned in [1, 100], without weight decay. Only rows that have both streams count.
    chunk_rows: rows of the logits that exist at a time; where there are more they are computed once more for the
    gradient, so memory grows with chunk_rows x N instead of B x N. None: all at once.
    """

    a: str = "image"
    b: str = "text"
    log_scale: float = Field(INITIAL_LOG_SCALE, ge=0, le=MAX_LOG_SCALE)
    chunk_rows: int | None = Field(CHUNK_ROWS, ge=1)

    def start_scale(self, trained_log_scale: float | None) -> float:
        """Where the logarithm of the scale starts."""
        return self.log_scale if trained_log_scale is None else min(max(trained_log_scale, 0.0), MAX_LOG_SCALE)


@dataclass
class Rows:
    """One stream's rows of this worker and of all, and the facts of the rows that decide which pairs count.

    own_B: place of each of my rows among those of all workers. counts_B, counts_N: rows that have both streams.
    """

    a_BD: Tensor
    b_BD: Tensor
    a_ND: Tensor
    b_ND: Tensor
    group_B: Tensor
    group_N: Tensor
    counts_B: Tensor
    counts_N: Tensor
    own_B: Tensor

    def ignored(self, rows: slice) -> Tensor:
        """bool (rows, N): no negatives, no positives: siblings (not the pair itself), rows that do not count."""
        return self.but_own((self.group_B[rows, None] == self.group_N[None, :]) | ~self.counts_N[None, :], rows)

    def absent(self, rows: slice) -> Tensor:
        """bool (rows, N): rows that do not count."""
        return self.but_own((~self.counts_N)[None, :].repeat(len(self.own_B[rows]), 1), rows)

    def but_own(self, mask_BN: Tensor, rows: slice) -> Tensor:
        """The mask without each row's own place: so the losses of rows that do not count stay finite, too."""
        own = self.own_B[rows]
        mask_BN[torch.arange(len(own), device=own.device), own] = False
        return mask_BN


def gather_pairs(batch: Encoded, a: str, b: str, *columns: str) -> Rows:
    """Rows of both streams from all workers; those count that have both, and the columns."""
    a_BD, b_BD, group_B, counts_B = batch.vectors[a], batch.vectors[b], batch.group_B, batch.has(a, b, *columns)
    own_B = torch.arange(len(group_B), device=group_B.device) + world()[0] * len(group_B)
    return Rows(
        a_BD, b_BD, gather_rows(a_BD), gather_rows(b_BD),
        group_B, gather_rows(group_B), counts_B, gather_rows(counts_B.long()).bool(), own_B,
    )  # fmt: skip


def mean_over_workers(losses_B: Tensor, counts_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """My share of the mean of the losses that count over all workers: the mean of these shares is that mean.

    weight_B: how much each counts, None: all alike. 0 (with a gradient of 0) where nothing counts.
    """
    share_B = counts_B.float() if weight_B is None else counts_B * weight_B
    number = share_B.sum()
    if world()[1] > 1:
        dist.all_reduce(number)
    total = torch.where(counts_B, losses_B * share_B, torch.zeros_like(losses_B)).sum()
    if weight_B is None:
        number = number.clamp(min=1)
    return total * world()[1] / torch.where(number > 0, number, torch.ones_like(number))


def by_chunks(function: Callable[[slice], Tensor], num_rows: int, chunk_rows: int | None) -> Tensor:
    """`function` of all rows, some at a time; what it makes on the way is made anew for the gradient, not kept."""
    if chunk_rows is None or chunk_rows >= num_rows:
        return function(slice(0, num_rows))
    parts = []
    for start in range(0, num_rows, chunk_rows):
        rows = slice(start, min(start + chunk_rows, num_rows))
        parts.append(checkpoint(function, rows, use_reentrant=False) if torch.is_grad_enabled() else function(rows))
    return torch.cat(parts)


class PairModule(TargetModule):
    """Base of the modules of `PairTarget`s: holds the learned logit scale."""

    def __init__(self, a: str, b: str, log_scale: float, chunk_rows: int | None = None) -> None:
        super().__init__()
        self.a, self.b, self.chunk_rows = a, b, chunk_rows
        self.log_scale = nn.Parameter(torch.tensor(log_scale))

    @torch.no_grad()
    def after_step(self) -> None:
        self.log_scale.clamp_(0.0, MAX_LOG_SCALE)
