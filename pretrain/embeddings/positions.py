"""Where and when a token stands: learned positions, sinusoids of the place, sinusoids of the time in seconds.

Shape suffixes: B rows, L tokens, W width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Position = Literal["learned", "sinusoidal", "none"]
_INITIAL_STD = 0.01
_LONGEST = 10_000.0
"""Longest wave length over 2 pi (Vaswani et al. 2017, arXiv:1706.03762, section 3.5)."""


def sinusoids(place: Tensor, width: int, longest: float = _LONGEST) -> Tensor:
    """(..., width) of places (...): sines in the first half, cosines in the second; width must be even."""
    if width % 2:
        raise ValueError(f"sinusoidal positions need an even width, not {width}")
    half = width // 2
    rates = torch.exp(-math.log(longest) * torch.arange(half, device=place.device) / max(1, half - 1))
    angles = place.float()[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def position_module(kind: Position, max_tokens: int, width: int) -> nn.Module:
    """A module that adds positions to (B, L, W), L being at most `max_tokens`."""
    if kind == "learned":
        return LearnedPositions(max_tokens, width)
    return SinusoidalPositions(max_tokens, width) if kind == "sinusoidal" else nn.Identity()


class LearnedPositions(nn.Module):
    """One learned vector a place."""

    def __init__(self, max_tokens: int, width: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(max_tokens, width) * _INITIAL_STD)

    def forward(self, x_BLW: Tensor) -> Tensor:
        if x_BLW.shape[-2] > len(self.position):
            raise ValueError(f"{x_BLW.shape[-2]} tokens, positions for {len(self.position)}")
        return x_BLW + self.position[: x_BLW.shape[-2]]


class SinusoidalPositions(nn.Module):
    """Sinusoids of the place; nothing is learned."""

    waves: Tensor

    def __init__(self, max_tokens: int, width: int) -> None:
        super().__init__()
        self.register_buffer("waves", sinusoids(torch.arange(max_tokens), width), persistent=False)

    def forward(self, x_BLW: Tensor) -> Tensor:
        if x_BLW.shape[-2] > len(self.waves):
            raise ValueError(f"{x_BLW.shape[-2]} tokens, positions for {len(self.waves)}")
        return x_BLW + self.waves[: x_BLW.shape[-2]]
