"""Prefix decoder: the memory stands before the target tokens in one transformer (SimVLM, arXiv:2108.10904)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.blocks import Block, causal, heads_of
from pretrain.decoders.base import Decoder
from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import Entrance


class PrefixDecoder(Decoder):
    """Prefix tokens see all of the prefix; target tokens see the prefix and the target tokens before them."""

    layers: int = Field(2, ge=1)
    heads: int | None = Field(None, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)

    def build(self, width: int, widths: dict[str, int]) -> nn.Module:
        return PrefixDecoderModule(self, width, widths)


class PrefixDecoderModule(nn.Module):
    """The module of `PrefixDecoder`."""

    def __init__(self, config: PrefixDecoder, width: int, widths: dict[str, int]) -> None:
        super().__init__()
        heads = heads_of(width, config.heads)
        self.entrance = Entrance(widths, width)
        self.blocks = nn.ModuleList(Block(width, heads, config.mlp_ratio, config.layers) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BTW: Tensor, memory: dict[str, Tokens], present: dict[str, Tensor]) -> Tensor:
        memory_BKW, seen_BK, _ = self.entrance(memory, present)
        allowed_BLL = prefix_mask(seen_BK, x_BTW.shape[1])
        x_BLW = torch.cat([memory_BKW, x_BTW], dim=1)
        for block in self.blocks:
            x_BLW = block(x_BLW, allowed_BLL)
        made_BTW: Tensor = self.norm(x_BLW[:, memory_BKW.shape[1] :])
        return made_BTW


def prefix_mask(seen_BK: Tensor, num_targets: int) -> Tensor:
    """bool (B, K + T, K + T): who may see whom, with K prefix tokens of which only those in `seen_BK` are there."""
    num_rows, num_prefix = seen_BK.shape
    length = num_prefix + num_targets
    allowed = torch.zeros(num_rows, length, length, dtype=torch.bool, device=seen_BK.device)
    allowed[:, :, :num_prefix] = seen_BK[:, None, :]
    allowed[:, num_prefix:, num_prefix:] = causal(num_targets, seen_BK.device)
    return allowed
