"""What every fusion is: a config whose `build` makes a module from the tokens of several streams to fused ones.

Shape suffixes: B rows, L tokens of a stream, K tokens of all streams, W width of the fusion.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.component import Component
from pretrain.embeddings.base import Tokens

_INITIAL_STD = 0.02


@dataclass
class Fused:
    """pooled_BW: one vector a row; tokens: stream -> its tokens (B, L, W) that have seen the other streams."""

    pooled_BW: Tensor
    tokens: dict[str, Tokens]


class Fusion(Component, ABC):
    """Base of all fusions.

    The module: forward(tokens: stream -> Tokens, present: stream -> bool (B,)) -> Fused. A stream that a row lacks is
    not seen, whatever its tokens hold; `present` names only streams that some row lacks.
    """

    @abstractmethod
    def build(self, widths: dict[str, int]) -> nn.Module:
        """The module for streams of these widths. Raises ValueError where they do not fit."""

    @abstractmethod
    def out_width(self) -> int:
        """Width of the fused tokens."""

    @abstractmethod
    def gives(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        """Those of these streams whose tokens it gives back."""

    def works_alone(self) -> bool:
        """Whether it takes a single stream as well, so that it can make a stream's vector (`through_fusion`)."""
        return False


class OneTransformer(Fusion, ABC):
    """Base of fusions that take the tokens of any streams, also of one, through one transformer and give all back."""

    width: int = Field(192, ge=1)
    layers: int = Field(2, ge=1)
    heads: int | None = Field(None, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)

    def out_width(self) -> int:
        return self.width

    def gives(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        return streams

    def works_alone(self) -> bool:
        return True


class Entrance(nn.Module):
    """Tokens of every stream at one width, each with the vector of its stream (segment embedding, BERT)."""

    def __init__(self, widths: dict[str, int], width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleDict(
            {name: nn.Identity() if own == width else nn.Linear(own, width) for name, own in widths.items()}
        )
        self.segments = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(width) * _INITIAL_STD) for name in sorted(widths)}
        )

    def forward(self, tokens: dict[str, Tokens], present: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, slice]]:
        """(x_BKW, bool (B, K): which may be seen, stream -> its places), in the order of the streams' names."""
        parts, masks, places, start = [], [], {}, 0
        for name in sorted(tokens):
            own = tokens[name]
            parts.append(self.maps[name](own.x_BLW) + self.segments[name])
            masks.append(seen(own, present.get(name)))
            places[name] = slice(start, start + own.x_BLW.shape[1])
            start = places[name].stop
        return torch.cat(parts, dim=1), torch.cat(masks, dim=1), places


def seen(tokens: Tokens, present_B: Tensor | None) -> Tensor:
    """bool (B, L): tokens that are there, in rows that have the stream."""
    mask_BL = tokens.mask_BL
    if mask_BL is None:
        mask_BL = torch.ones(tokens.x_BLW.shape[:2], dtype=torch.bool, device=tokens.x_BLW.device)
    return mask_BL if present_B is None else mask_BL & present_B[:, None]


def split(x_BKW: Tensor, tokens: dict[str, Tokens], places: dict[str, slice]) -> dict[str, Tokens]:
    """The fused tokens of each stream."""
    return {name: Tokens(x_BKW[:, place], tokens[name].mask_BL) for name, place in places.items()}
