"""How many rows go through a model at a time: as many as help and as memory holds, found by trying."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

log = logging.getLogger(__name__)
R = TypeVar("R")
ON_CPU = 32
"""Rows at a time on a CPU: from 16 on, more is no faster (ViT-B-32, bfloat16, 1 thread)."""
LARGEST = 1024
"""On a GPU: from some 256 pictures on, more is no faster."""
PROBE = 8
MEMORY_SHARE = 0.6
"""Of the GPU's free memory: the rest is for the allocator's fragments and for another model."""


def fits(free_bytes: int, probe_bytes: int, probe_rows: int) -> int:
    """Rows (a power of two, 1 to `LARGEST`) that `MEMORY_SHARE` of the free bytes hold, where `probe_rows` took
    `probe_bytes`."""
    rows = int(free_bytes * MEMORY_SHARE * probe_rows / max(1, probe_bytes))
    return max(1, min(LARGEST, 1 << (max(1, rows).bit_length() - 1)))


class BatchSize:
    """The batch size of one tower on one device; `None` finds it at the first call that has enough rows.

    On a CPU it depends on nothing, so the same rows meet in the same batches on every machine.
    """

    def __init__(self, device: torch.device, rows: int | None = None) -> None:
        self._device = device
        self.rows = rows or (ON_CPU if device.type == "cpu" else None)

    def run(self, items: Sequence[R], work: Callable[[Sequence[R]], torch.Tensor]) -> torch.Tensor:
        """`work` on consecutive pieces of `items`, its results one after the other. Where a piece does not fit into
        memory, it is tried again in halves; one row that does not fit raises torch's OutOfMemoryError."""
        made: list[torch.Tensor] = []
        start = 0
        while start < len(items):
            rows = self.rows or PROBE
            piece = items[start : start + rows]
            before = self._reset_peak()
            try:
                made.append(work(piece))
            except torch.OutOfMemoryError:
                if rows <= 1:
                    raise
                self.rows = rows // 2
                log.warning("%d rows at a time do not fit into memory, now %d", rows, self.rows)
                continue
            if self.rows is None and len(piece) == PROBE:
                free, _ = torch.cuda.mem_get_info(self._device)
                self.rows = fits(free, torch.cuda.max_memory_allocated(self._device) - before, PROBE)
            start += len(piece)
        return torch.cat(made)

    def _reset_peak(self) -> int:
        if self.rows is not None or self._device.type != "cuda":
            return 0
        torch.cuda.reset_peak_memory_stats(self._device)
        return torch.cuda.memory_allocated(self._device)
