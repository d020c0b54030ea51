"""Gathering rows from all workers so that gradients flow back to where the rows were made."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank, number of workers); (0, 1) outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):
    """Forward: concatenate over ranks. Backward: sum what every rank's loss says about my rows.

    Without that sum each encoder's gradient would be 1/n of the true one after averaging over n workers.
    """

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        rank, size = world()
        ctx.rows = (rank * mine.shape[0], (rank + 1) * mine.shape[0])
        parts = [torch.empty_like(mine) for _ in range(size)]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return total[ctx.rows[0] : ctx.rows[1]]


def gather_rows(mine: Tensor) -> Tensor:
    """Rows of all workers, in the order of their ranks; every worker must give the same number of rows."""
    if world()[1] == 1:
        return mine
    if not mine.is_floating_point():
        parts = [torch.empty_like(mine) for _ in range(world()[1])]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)
    gathered: Tensor = _Gather.apply(mine)
    return gathered


def is_spread(value: object) -> bool:
    """Whether each worker holds a part of this tensor or parameter only (FSDP2)."""
    return hasattr(value, "full_tensor")
