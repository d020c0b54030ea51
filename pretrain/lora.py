"""Low-rank adaptation: linear layers that learn W + (alpha / rank) B A while W stays (LoRA, arXiv:2106.09685).

A parametrisation of the layer's weight, so whatever reads the weight (attention that takes it directly, too) sees the
adapted one, and merging is writing down what is computed anyway.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pretrain.config import ConfigError, Lora


class LowRank(nn.Module):
    """forward(W) -> W + (alpha / rank) B A. At the start B = 0, so nothing changes (section 4.1 of the paper)."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        out, width = weight.shape
        self.a = nn.Parameter(torch.randn(rank, width, device=weight.device) * width**-0.5)
        self.b = nn.Parameter(torch.zeros(out, rank, device=weight.device))
        self._scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self._scale * (self.b @ self.a)


def add_lora(model: nn.Module, settings: Lora) -> list[str]:
    """Adapt the linear layers whose names match; their own weights are frozen. Returns the names.

    Raises ConfigError where a pattern matches no linear layer.
    """
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for pattern in settings.layers:
        if not any(fnmatchcase(name, pattern) for name in linear):
            raise ConfigError(f"lora.layers: {pattern!r} matches no linear layer; there are: {', '.join(linear)}")
    chosen = [name for name in linear if any(fnmatchcase(name, pattern) for pattern in settings.layers)]
    for name in chosen:
        layer = linear[name]
        layer.weight.requires_grad_(False)
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, settings.rank, settings.alpha))
    return chosen


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is that of a low-rank update."""
    return ".parametrizations." in f".{name}" and not name.endswith(".original")


def merge_lora(model: nn.Module) -> None:
    """Write the adapted weights down as ordinary ones; the model computes what it did."""
    for layer in list(model.modules()):
        if isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
