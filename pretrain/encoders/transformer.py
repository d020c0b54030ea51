"""Token encoders: open_clip's transformer with a pool, and a plain feed-forward block over the pooled tokens."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.base import Form, Tokens
from pretrain.encoders.base import Encoder

Pool = Literal["mean", "first"]


class Transformer(Encoder):
    """Bidirectional pre-norm transformer (`open_clip.transformer.Transformer`), final layer norm, pool.

    heads: default one for every 64 of the width. pool: mean of the tokens that are there, or the first token.
    """

    takes: ClassVar[Form] = "tokens"
    gives_tokens: ClassVar[bool] = True

    layers: int = Field(2, ge=0)
    heads: int | None = Field(None, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    pool: Pool = "mean"

    def out_width(self, width: int) -> int:
        return width

    def build(self, width: int, num_tokens: int | None = None) -> nn.Module:  # noqa: ARG002
        heads = self.heads or max(1, width // 64)
        if width % heads:
            raise ValueError(f"width {width} is no multiple of heads {heads}")
        return TransformerEncoder(width, self.layers, heads, self.mlp_ratio, self.pool)


class TransformerEncoder(nn.Module):
    """The module of `Transformer`."""

    def __init__(self, width: int, layers: int, heads: int, mlp_ratio: float, pool: Pool) -> None:
        from open_clip.transformer import Transformer as OpenClipTransformer  # seconds to import, so only where used

        super().__init__()
        self.heads, self.pool = heads, pool
        self.norm_before = nn.LayerNorm(width)
        self.transformer = OpenClipTransformer(width, layers, heads, mlp_ratio)
        self.norm_after = nn.LayerNorm(width)
        for block in self.transformer.resblocks:  # as in open_clip's TextTransformer
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)

    def tokens(self, tokens: Tokens) -> Tokens:
        """All tokens, after the final norm."""
        bias = None if tokens.mask_BL is None else self._padding_bias(tokens.mask_BL, tokens.x_BLW.dtype)
        x_BLW = self.norm_after(self.transformer(self.norm_before(tokens.x_BLW), attn_mask=bias))
        return Tokens(x_BLW, tokens.mask_BL)

    def pooled(self, tokens: Tokens) -> Tensor:
        """(B, W) of what `tokens` gave."""
        return pool_tokens(tokens.x_BLW, tokens.mask_BL, self.pool)

    def forward(self, tokens: Tokens) -> Tensor:
        return self.pooled(self.tokens(tokens))

    def _padding_bias(self, mask_BL: Tensor, dtype: torch.dtype) -> Tensor:
        """(B * heads, L, L), minus infinity where a key is padding."""
        num_tokens = mask_BL.shape[1]
        bias_B1L = torch.zeros_like(mask_BL, dtype=dtype).masked_fill_(~mask_BL, float("-inf"))[:, None]
        return bias_B1L.expand(-1, num_tokens, -1).repeat_interleave(self.heads, dim=0)


class FeedForward(Encoder):
    """Pool, layer norm, one residual feed-forward block: right where there is one token (a bag), or little time.

    pool: as above, or `flatten`: all tokens side by side, so that where something is stays known; only for embeddings
    whose number of tokens never varies (pictures).
    """

    takes: ClassVar[Form] = "tokens"

    mlp_ratio: float = Field(4.0, gt=0)
    pool: Literal["mean", "first", "flatten"] = "mean"

    def out_width(self, width: int) -> int:
        return width

    def build(self, width: int, num_tokens: int | None = None) -> nn.Module:
        if self.pool == "flatten" and num_tokens is None:
            raise ValueError("pool: flatten needs an embedding whose number of tokens never varies")
        return FeedForwardEncoder(width, self.mlp_ratio, self.pool, num_tokens or 1)


class FeedForwardEncoder(nn.Module):
    """The module of `FeedForward`."""

    def __init__(
        self, width: int, mlp_ratio: float, pool: Literal["mean", "first", "flatten"], num_tokens: int
    ) -> None:
        super().__init__()
        self.pool = pool
        hidden = int(width * mlp_ratio)
        self.flat = nn.Linear(width * num_tokens, width) if pool == "flatten" else nn.Identity()
        self.norm = nn.LayerNorm(width)
        self.block = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tokens) -> Tensor:
        if self.pool == "flatten":
            pooled_BW = self.flat(tokens.x_BLW.flatten(1))
        else:
            pooled_BW = pool_tokens(tokens.x_BLW, tokens.mask_BL, self.pool)
        x_BW = self.norm(pooled_BW)
        out_BW: Tensor = x_BW + self.block(x_BW)
        return out_BW


def pool_tokens(x_BLW: Tensor, mask_BL: Tensor | None, pool: Pool) -> Tensor:
    """(B, W): the first token, or the mean of the tokens that are there."""
    if pool == "first":
        return x_BLW[:, 0]
    if mask_BL is None:
        return x_BLW.mean(dim=1)
    weight_BL1 = mask_BL.to(x_BLW.dtype)[..., None]
    return (x_BLW * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1)
