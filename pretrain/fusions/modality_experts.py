"""Mixture of modality experts: shared attention, a feed-forward for each stream (VLMo, arXiv:2111.02358)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from pretrain.blocks import Block, heads_of
from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import Entrance, Fused, OneTransformer, split

JOINT = "joint"
"""Name of the feed-forward of all streams together."""


class ModalityExperts(OneTransformer):
    """All tokens share each layer's self-attention; a stream's tokens go through the feed-forward of their stream.

    Of several streams at once, the last `joint_layers` layers use one feed-forward for all (VLMo base: 2 of 12). Of one
    stream alone, all layers use that stream's, so the same attention weights serve two towers and a fusion (also
    BEiT-3, arXiv:2208.10442). Pooled: mean of the tokens that are there.
    """

    layers: int = Field(3, ge=1)
    joint_layers: int = Field(1, ge=0)

    def build(self, widths: dict[str, int]) -> nn.Module:
        if self.joint_layers > self.layers:
            raise ValueError(f"joint_layers {self.joint_layers} are more than layers {self.layers}")
        if JOINT in widths:
            raise ValueError(f"no stream may be called {JOINT!r} here: that is the name of the common feed-forward")
        return ModalityExpertsFusion(self, widths)


class ModalityExpertsFusion(nn.Module):
    """The module of `ModalityExperts`."""

    def __init__(self, config: ModalityExperts, widths: dict[str, int]) -> None:
        super().__init__()
        self.entrance = Entrance(widths, config.width)
        heads = heads_of(config.width, config.heads)
        self.num_separate = config.layers - config.joint_layers
        streams = tuple(sorted(widths))
        self.blocks = nn.ModuleList(
            Block(config.width, heads, config.mlp_ratio, config.layers,
                  experts=streams if index < self.num_separate else (*streams, JOINT))
            for index in range(config.layers)
        )  # fmt: skip
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: dict[str, Tokens], present: dict[str, Tensor]) -> Fused:
        x_BKW, allowed_BK, places = self.entrance(tokens, present)
        is_joint = len(tokens) > 1
        for index, block in enumerate(self.blocks):
            parts = {JOINT: slice(None)} if is_joint and index >= self.num_separate else places
            x_BKW = block(x_BKW, allowed_BK, parts=parts)
        x_BKW = self.norm(x_BKW)
        weight_BK1 = allowed_BK[..., None].to(x_BKW.dtype)
        pooled_BW = (x_BKW * weight_BK1).sum(dim=1) / weight_BK1.sum(dim=1).clamp(min=1)
        return Fused(pooled_BW, split(x_BKW, tokens, places))
