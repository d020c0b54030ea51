"""Encoders of frames: each frame's picture vector, then their mean or a transformer over time (CLIP4Clip,
arXiv:2104.08860, section 3.3). Shape suffixes: B rows, T frames, W width."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, Field, PlainSerializer
from torch import Tensor, nn

from pretrain.blocks import Block, heads_of
from pretrain.component import parser, to_spec
from pretrain.embeddings.base import Form, Tokens
from pretrain.embeddings.positions import sinusoids
from pretrain.embeddings.video import Frames
from pretrain.encoders.base import Encoder
from pretrain.encoders.transformer import pool_tokens

_LONGEST_S = 1000.0
"""Longest wave length over 2 pi of times in tenths of a second: tells seconds from minutes."""
_TENTHS = 10.0


class FrameEncoder(Encoder):
    """A picture encoder on every frame, then `layers` of a transformer over time, then the mean of the frames.

    With 0 layers this is the mean of the frames, which cannot know their order ("parameter-free" in CLIP4Clip). With
    layers each frame carries its place, or its time in seconds where that is known, as sinusoids of a learned strength.
    """

    takes: ClassVar[Form] = "frames"
    gives_tokens: ClassVar[bool] = True

    frame: Annotated[Encoder, BeforeValidator(parser(Encoder, "pretrain.encoders")), PlainSerializer(to_spec)]
    layers: int = Field(0, ge=0)
    heads: int | None = Field(None, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)

    def without_weights(self) -> Encoder:
        return self.model_copy(update={"frame": self.frame.without_weights()})

    def out_width(self, width: int) -> int:
        return self.frame.out_width(width)

    def build(self, width: int, num_tokens: int | None = None) -> nn.Module:
        return FrameEncoderModule(self, self.frame.build(width, num_tokens), self.out_width(width))


class FrameEncoderModule(nn.Module):
    """The module of `FrameEncoder`. Its tokens are the frames."""

    def __init__(self, config: FrameEncoder, frame: nn.Module, width: int) -> None:
        super().__init__()
        self.frame = frame
        heads = heads_of(width, config.heads) if config.layers else 1
        self.blocks = nn.ModuleList(Block(width, heads, config.mlp_ratio, config.layers) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width) if config.layers else nn.Identity()
        self.time_strength = nn.Parameter(torch.ones(())) if config.layers else None

    def tokens(self, frames: Frames) -> Tokens:
        """One token a frame."""
        x_BTW = self.frame(frames.made).unflatten(0, frames.seen_BT.shape)
        if self.time_strength is not None:
            place_BT = torch.arange(x_BTW.shape[1], device=x_BTW.device).expand(x_BTW.shape[:2])
            when_BT = place_BT if frames.time_BT is None else frames.time_BT * _TENTHS
            x_BTW = x_BTW + self.time_strength * sinusoids(when_BT, x_BTW.shape[2], _LONGEST_S).to(x_BTW.dtype)
        for block in self.blocks:
            x_BTW = block(x_BTW, frames.seen_BT)
        return Tokens(self.norm(x_BTW), frames.seen_BT)

    def pooled(self, tokens: Tokens) -> Tensor:
        """(B, W): the mean of the frames that are there."""
        return pool_tokens(tokens.x_BLW, tokens.mask_BL, "mean")

    def forward(self, frames: Any) -> Tensor:
        return self.pooled(self.tokens(frames))
