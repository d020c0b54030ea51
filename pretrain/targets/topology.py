"""Keeping an older model's neighbourhoods while training goes on (CTP, arXiv:2308.07146)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.targets.base import Encoded, check_vectors
from pretrain.targets.gather import gather_rows
from pretrain.targets.pairs import PairModule, PairTarget, by_chunks, gather_pairs, mean_over_workers

if TYPE_CHECKING:
    from pretrain.columns import Column


class Topology(PairTarget):
    """KL(older || present) of each row's similarities to the others, softmaxed: across streams (mean of both
    directions) plus within each stream, itself left out (mean of both).

    older_a, older_b: columns with the older model's vectors of the rows. 0 where the model is the older one. Siblings
    are left out, as everywhere.
    """

    older_a: str
    older_b: str
    temperature: float = Field(0.07, gt=0)

    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.older_a, self.older_b)))

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        check_vectors(columns, self.older_a, self.older_b)

    def build(self, trained_log_scale: float | None = None) -> nn.Module:  # noqa: ARG002  (it has no learned scale)
        return TopologyLoss(self)


class TopologyLoss(PairModule):
    """The module of `Topology`; the scale is fixed."""

    def __init__(self, config: Topology) -> None:
        super().__init__(config.a, config.b, 0.0, config.chunk_rows)
        self.log_scale.requires_grad_(False)
        self.older_a, self.older_b, self.temperature = config.older_a, config.older_b, config.temperature

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b, self.older_a, self.older_b)
        old_a_BD, old_b_BD = (F.normalize(batch.columns[name], dim=-1) for name in (self.older_a, self.older_b))
        old_a_ND, old_b_ND = gather_rows(old_a_BD), gather_rows(old_b_BD)

        def kl(older: tuple[Tensor, Tensor], present: tuple[Tensor, Tensor], has_own: bool) -> Tensor:
            def losses(chosen: slice) -> Tensor:
                ignored = rows.ignored(chosen)
                if not has_own:
                    place = torch.arange(len(ignored), device=ignored.device)
                    ignored[place, rows.own_B[chosen]] = True
                # where there is nobody else there is nothing to keep: a softmax of all, so that nothing is NaN, and 0
                left_out = ignored & ~ignored.all(dim=1, keepdim=True)
                old_log, now_log = (
                    (mine[chosen] @ all_.T / self.temperature).masked_fill(left_out, float("-inf")).log_softmax(dim=1)
                    for mine, all_ in (older, present)
                )
                difference = (old_log - now_log).masked_fill(ignored, 0.0)
                return (old_log.exp() * difference).sum(dim=1)

            return by_chunks(losses, len(rows.a_BD), self.chunk_rows)

        across = kl((old_a_BD, old_b_ND), (rows.a_BD, rows.b_ND), has_own=True)
        across = across + kl((old_b_BD, old_a_ND), (rows.b_BD, rows.a_ND), has_own=True)
        within = kl((old_a_BD, old_a_ND), (rows.a_BD, rows.a_ND), has_own=False)
        within = within + kl((old_b_BD, old_b_ND), (rows.b_BD, rows.b_ND), has_own=False)
        return mean_over_workers((across + within) / 2, rows.counts_B, batch.weight_B)
