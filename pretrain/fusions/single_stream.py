"""Single-stream fusion: all streams end to end through one transformer (ViLT, Kim et al. 2021, arXiv:2102.03334)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretrain.blocks import Block, heads_of
from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import Entrance, Fused, OneTransformer, split

_INITIAL_STD = 0.02


class SingleStream(OneTransformer):
    """A class token and the tokens of every stream, each with its stream's vector, see each other in every layer.

    A stream that a row lacks is masked, so the row is what it would be without that stream. The pooled vector is the
    class token's. Streams of another width are mapped to `width`.
    """

    def build(self, widths: dict[str, int]) -> nn.Module:
        return SingleStreamFusion(self, widths)


class SingleStreamFusion(nn.Module):
    """The module of `SingleStream`."""

    def __init__(self, config: SingleStream, widths: dict[str, int]) -> None:
        super().__init__()
        self.entrance = Entrance(widths, config.width)
        self.class_token = nn.Parameter(torch.randn(config.width) * _INITIAL_STD)
        heads = heads_of(config.width, config.heads)
        self.blocks = nn.ModuleList(
            Block(config.width, heads, config.mlp_ratio, config.layers) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: dict[str, Tokens], present: dict[str, Tensor]) -> Fused:
        x_BKW, allowed_BK, places = self.entrance(tokens, present)
        x_BKW = torch.cat([self.class_token.expand(len(x_BKW), 1, -1).to(x_BKW.dtype), x_BKW], dim=1)
        allowed_BK = torch.cat([torch.ones_like(allowed_BK[:, :1]), allowed_BK], dim=1)
        for block in self.blocks:
            x_BKW = block(x_BKW, allowed_BK)
        x_BKW = self.norm(x_BKW)
        return Fused(x_BKW[:, 0], split(x_BKW[:, 1:], tokens, places))
