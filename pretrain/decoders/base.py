"""What every decoder is: a config whose `build` makes a module from target tokens and a memory to states of the same
width, none of which has seen a later target token. Shape suffixes: B rows, T target tokens, W width."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import Field
from torch import nn

from pretrain.component import Component


class Decoder(Component, ABC):
    """Base of all decoders.

    The module: forward(x_BTW, memory: stream -> Tokens, present: stream -> bool (B,)) -> (B, T, W) of normed states.
    Streams that a row lacks are not seen. reads: streams whose tokens are the memory. tied: the target embedding's
    table also turns states into scores of the next token (Press and Wolf 2017, arXiv:1608.05859); else a layer of its
    own.
    """

    reads: tuple[str, ...] = Field(("image",), min_length=1)
    tied: bool = True

    @abstractmethod
    def build(self, width: int, widths: dict[str, int]) -> nn.Module:
        """The module for target tokens of `width` and streams of `widths` (those in `reads`)."""
