"""What every encoder is: a config whose `build` makes a module from tokens (or pixels) to one vector a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from pretrain.component import Component
from pretrain.embeddings.base import Form


class Encoder(Component, ABC):
    """Base of all encoders."""

    takes: ClassVar[Form]
    gives_tokens: ClassVar[bool] = False
    """Whether its module also has `tokens`: what `forward` pools, as `Tokens` of the same width."""

    @abstractmethod
    def build(self, width: int, num_tokens: int | None = None) -> nn.Module:
        """The module for an embedding of `width`: forward(Tokens or BCHW) -> (B, out_width(width)).

        num_tokens: how many tokens there always are, None if their number varies. Raises ValueError where that matters.
        """

    def without_weights(self) -> Encoder:
        """The same architecture, not started from stored weights."""
        return self

    @abstractmethod
    def out_width(self, width: int) -> int:
        """Width of the vector that the module returns."""
