"""What every embedding is: a config with `prepare` (raw input -> tensors, on the CPU) and `build` (the module)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from pretrain.component import Component

Inputs = dict[str, Tensor]
"""Keyword arguments of an embedding's module."""
Form = Literal["tokens", "pixels"]


@dataclass
class Tokens:
    """x_BLW: token vectors; mask_BL: True where there is a token (at least one in each row), None if everywhere."""

    x_BLW: Tensor
    mask_BL: Tensor | None = None


class Embedding(Component, ABC):
    """Base of all embeddings."""

    gives: ClassVar[Form]
    """"tokens": the module returns `Tokens`; "pixels": a normalised BCHW tensor."""

    @abstractmethod
    def prepare(self, raw: Any) -> Inputs:
        """Tensors for the module from raw input: a list of str, or float32 BCHW pictures in 0..1."""

    @abstractmethod
    def build(self, image_size: int) -> nn.Module:
        """The module; its forward takes what `prepare` returns as keyword arguments."""

    def num_tokens_of(self, image_size: int) -> int | None:  # noqa: ARG002
        """Number of tokens L where it is the same for every input, else None."""
        return None

    @abstractmethod
    def width_of(self, image_size: int) -> int:
        """Width W of a token, or number of channels for pixels."""
