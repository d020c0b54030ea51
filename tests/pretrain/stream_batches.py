"""Batches of any streams, and the loss of a target built for a model, for tests of targets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from pretrain.targets.base import Encoded, Target
from tests.pretrain.batches import unit

MODEL: Any = SimpleNamespace(embed_dim=6, trained_log_scale=lambda: None, parts=lambda: None)


def batch_of(rows: int, streams: tuple[str, ...] = ("image", "text"), **more: Any) -> Encoded:
    vectors = {name: unit(rows, 6, seed=index) for index, name in enumerate(streams)}
    return Encoded(vectors, torch.arange(rows), **more)


def loss_of(target: Target, batch: Encoded, done: float = 1.0) -> float:
    torch.manual_seed(0)
    module: Any = target.build_for(MODEL)
    module.set_progress(done)
    return float(module(batch).detach())
