"""Random batches of unit vectors for tests of targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pretrain.targets.base import Encoded, Target, TargetModule

SCALE = 2.0


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def unit_array(*shape: int, seed: int) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=shape)
    return np.asarray(made / np.linalg.norm(made, axis=-1, keepdims=True))


def batch_of(num_rows: int, dim: int = 6, seed: int = 0, group: list[int] | None = None, **more: Any) -> Encoded:
    vectors = {"image": unit(num_rows, dim, seed=seed), "text": unit(num_rows, dim, seed=seed + 1)}
    return Encoded(vectors, torch.tensor(group) if group else torch.arange(num_rows), **more)


def loss_of(target: Target, batch: Encoded, progress: float = 1.0) -> torch.Tensor:
    module = target.build()
    assert isinstance(module, TargetModule)
    module.set_progress(progress)
    loss: torch.Tensor = module(batch)
    return loss
