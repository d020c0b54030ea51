"""Contrast with a queue of earlier rows, encoded by a slowly moving copy of the model (BriVL, arXiv:2103.06561)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.targets.base import Encoded
from pretrain.targets.gather import gather_rows
from pretrain.targets.pairs import PairModule, PairTarget, by_chunks, mean_over_workers

if TYPE_CHECKING:
    from pretrain.model import Model

_NOBODY = torch.iinfo(torch.int64).min
"""Group of a place in the queue that nobody has taken yet."""


class MomentumQueue(PairTarget):
    """Row r of `a` against the momentum key of its own `b` and the queue of earlier keys of `b`; and the other way.

    Keys in the queue know their group: those of the row's own group are no negatives, which matters as soon as the
    queue is longer than the corpus. An empty queue gives 0. Size and momentum: CTP's released code; BriVL's are larger.
    """

    size: int = Field(1024, ge=1)
    keep: float = Field(0.995, ge=0, lt=1)
    """Share of its old weights that the momentum model keeps at each step."""
    embed_dim: int = Field(ge=2)
    """Width of the model's vectors."""

    def momentum(self) -> float | None:
        return self.keep

    def build_for(self, model: Model) -> nn.Module:
        if self.embed_dim != model.embed_dim:
            raise ValueError(f"MomentumQueue: embed_dim is {self.embed_dim}, the model's {model.embed_dim}")
        return super().build_for(model)

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        scale = self.start_scale(trained_log_scale)
        return MomentumQueueLoss(self.a, self.b, scale, self.size, self.embed_dim, self.chunk_rows)


class MomentumQueueLoss(PairModule):
    """The module of `MomentumQueue`. The queue is part of its state, the same on every worker."""

    queue_a: Tensor
    queue_b: Tensor
    queue_group: Tensor

    def __init__(
        self, a: str, b: str, log_scale: float, size: int, embed_dim: int, chunk_rows: int | None = None
    ) -> None:
        super().__init__(a, b, log_scale, chunk_rows)
        self.register_buffer("queue_a", torch.zeros(size, embed_dim))
        self.register_buffer("queue_b", torch.zeros(size, embed_dim))
        self.register_buffer("queue_group", torch.full((size,), _NOBODY))
        self._next: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, batch: Encoded) -> Tensor:
        if batch.keys[self.a].shape[1] != self.queue_a.shape[1]:
            raise ValueError(f"embed_dim is {self.queue_a.shape[1]}, the model's {batch.keys[self.a].shape[1]}")
        counts_B = batch.has(self.a, self.b)
        losses_B = self._direction(batch.vectors[self.a], batch.keys[self.b], self.queue_b, batch.group_B)
        losses_B = losses_B + self._direction(batch.vectors[self.b], batch.keys[self.a], self.queue_a, batch.group_B)
        if self.training:
            counts_N = gather_rows(counts_B.long()).bool()
            found = (batch.keys[self.a], batch.keys[self.b], batch.group_B)
            a_ND, b_ND, group_N = (gather_rows(each.detach())[counts_N] for each in found)
            self._next = (a_ND, b_ND, group_N)
        return mean_over_workers(losses_B / 2, counts_B, batch.weight_B)

    def _direction(self, from_BD: Tensor, key_BD: Tensor, queue_QD: Tensor, group_B: Tensor) -> Tensor:
        scale = self.log_scale.exp()

        def losses(chosen: slice) -> Tensor:
            from_RD, group_R = from_BD[chosen], group_B[chosen]
            own_R1 = scale * (from_RD * key_BD[chosen]).sum(dim=1, keepdim=True)
            others_RQ = scale * from_RD @ queue_QD.T
            no_negative_RQ = (self.queue_group == _NOBODY)[None, :] | (group_R[:, None] == self.queue_group[None, :])
            logits = torch.cat([own_R1, others_RQ.masked_fill(no_negative_RQ, float("-inf"))], dim=1)
            return F.cross_entropy(logits, torch.zeros_like(group_R), reduction="none")

        return by_chunks(losses, len(from_BD), self.chunk_rows)

    @torch.no_grad()
    def after_step(self) -> None:
        super().after_step()
        if self._next is None:
            return
        for queue, keys in zip((self.queue_a, self.queue_b, self.queue_group), self._next, strict=True):
            queue.copy_(torch.cat([keys.to(queue.dtype), queue])[: len(queue)])
        self._next = None
