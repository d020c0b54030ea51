"""Cross-attention fusion: one stream reads the others (ALBEF, arXiv:2107.07651; BLIP, arXiv:2201.12086)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from pretrain.blocks import Block, heads_of
from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import Entrance, Fused, Fusion, seen


class CrossAttention(Fusion):
    """In every layer the tokens of the stream `into` attend to each other, then to the tokens of all other streams.

    Only the tokens of `into` come back; the pooled vector is that of its first token. A row that lacks the other
    streams is what `into` makes alone. BLIP's multimodal encoder has 12 such layers of width 768.
    """

    into: str = "text"
    width: int = Field(192, ge=1)
    layers: int = Field(2, ge=1)
    heads: int | None = Field(None, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)

    def out_width(self) -> int:
        return self.width

    def gives(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in streams if name == self.into)

    def build(self, widths: dict[str, int]) -> nn.Module:
        if self.into not in widths:
            raise ValueError(f"into: no stream {self.into!r} that gives tokens; valid: {', '.join(widths)}")
        return CrossAttentionFusion(self, widths)


class CrossAttentionFusion(nn.Module):
    """The module of `CrossAttention`."""

    def __init__(self, config: CrossAttention, widths: dict[str, int]) -> None:
        super().__init__()
        self.into = config.into
        own = widths[config.into]
        self.map = nn.Identity() if own == config.width else nn.Linear(own, config.width)
        self.entrance = Entrance({name: w for name, w in widths.items() if name != config.into}, config.width)
        heads = heads_of(config.width, config.heads)
        self.blocks = nn.ModuleList(
            Block(config.width, heads, config.mlp_ratio, config.layers, crosses=True) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: dict[str, Tokens], present: dict[str, Tensor]) -> Fused:
        others = {name: each for name, each in tokens.items() if name != self.into}
        if self.into not in tokens or not others:
            raise ValueError(f"needs the stream {self.into!r} and at least one other, not {sorted(tokens)}")
        memory_BKW, memory_allowed, _ = self.entrance(others, present)
        own = tokens[self.into]
        allowed_BL = seen(own, present.get(self.into))
        x_BLW = self.map(own.x_BLW)
        for block in self.blocks:
            x_BLW = block(x_BLW, allowed_BL, memory_BKW, memory_allowed)
        x_BLW = self.norm(x_BLW)
        return Fused(x_BLW[:, 0], {self.into: Tokens(x_BLW, own.mask_BL)})
