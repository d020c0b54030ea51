"""Causal decoder with cross-attention: each token sees the earlier ones and the memory (CoCa, arXiv:2205.01917)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from pretrain.blocks import Block, causal, heads_of
from pretrain.decoders.base import Decoder
from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import Entrance


class CausalDecoder(Decoder):
    """Layers of causal self-attention, cross-attention to the streams in `reads`, feed-forward."""

    layers: int = Field(2, ge=1)
    heads: int | None = Field(None, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)

    def build(self, width: int, widths: dict[str, int]) -> nn.Module:
        return CausalDecoderModule(self, width, widths)


class CausalDecoderModule(nn.Module):
    """The module of `CausalDecoder`."""

    def __init__(self, config: CausalDecoder, width: int, widths: dict[str, int]) -> None:
        super().__init__()
        heads = heads_of(width, config.heads)
        self.entrance = Entrance(widths, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, config.mlp_ratio, config.layers, crosses=True) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BTW: Tensor, memory: dict[str, Tokens], present: dict[str, Tensor]) -> Tensor:
        memory_BKW, memory_allowed, _ = self.entrance(memory, present)
        allowed_BTT = causal(x_BTW.shape[1], x_BTW.device).expand(len(x_BTW), -1, -1)
        for block in self.blocks:
            x_BTW = block(x_BTW, allowed_BTT, memory_BKW, memory_allowed)
        made_BTW: Tensor = self.norm(x_BTW)
        return made_BTW
