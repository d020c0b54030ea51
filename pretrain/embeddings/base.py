"""What every embedding is: a config with `prepare` (raw input -> tensors, on the CPU) and `build` (the module)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pretrain.component import Component

Inputs = dict[str, Tensor]
"""Keyword arguments of an embedding's module."""
Form = Literal["tokens", "pixels", "frames", "numbers"]
Source = Literal["image", "text", "audio", "video"]
"""What a sample may have."""
SOURCES: tuple[Source, ...] = ("image", "text", "audio", "video")
OF_TEXTS = "texts."
"""Begins the name of a source that is what the version says of each text drawn, such as `texts.caption_negatives`."""
IDS = "ids_BL"
"""Name of the token numbers among the inputs of an embedding that has a vocabulary."""


@dataclass
class Tokens:
    """x_BLW: token vectors; mask_BL: True where there is a token (at least one in each row), None if everywhere."""

    x_BLW: Tensor
    mask_BL: Tensor | None = None


@dataclass(frozen=True)
class Sound:
    """What an embedding takes of a sound: mono samples at `rate_hz`, `max_s` seconds at most."""

    rate_hz: int
    max_s: float


@dataclass(frozen=True)
class Film:
    """What an embedding takes of moving pictures: `num_frames` squares, spread over the whole."""

    num_frames: int


@dataclass(frozen=True)
class Vocabulary:
    """What the token numbers of an embedding mean. size: how many there are, with those that have a special meaning.

    pad: no token; start, end: before and after each text; mask: in place of a token that is to be guessed.
    """

    size: int
    pad: int
    start: int
    end: int
    mask: int

    def ordinary(self, ids_BL: Tensor) -> Tensor:
        """bool (B, L): tokens of the text itself."""
        return (ids_BL != self.pad) & (ids_BL != self.start) & (ids_BL != self.end) & (ids_BL != self.mask)


@dataclass(frozen=True)
class Masked:
    """Inputs some of whose tokens are hidden. mask_BL: which; truth: what stood there, for every token: its number
    (B, L) int64, or its pixels (B, L, P)."""

    inputs: Inputs
    mask_BL: Tensor
    truth: Tensor


class Embedding(Component, ABC):
    """Base of all embeddings."""

    gives: ClassVar[Form]
    """"tokens": the module returns `Tokens`; "pixels": a normalised BCHW tensor; "frames": `video.Frames`;
    "numbers": token numbers and which of them are there."""

    @abstractmethod
    def prepare(self, raw: Any) -> Inputs:
        """Tensors for the module from raw input: a list of str, or float32 BCHW pictures in 0..1."""

    @abstractmethod
    def build(self, image_size: int) -> nn.Module:
        """The module; its forward takes what `prepare` returns as keyword arguments."""

    def span(self) -> Sound | Film | None:
        """What it takes of a segment of sound or moving pictures; None where its input is a picture or a text."""
        return None

    def vocabulary(self) -> Vocabulary | None:
        """What its token numbers (`ids_BL` among its inputs) mean; None where its input is no row of tokens."""
        return None

    def is_maskable(self) -> bool:
        """Whether `masked` can hide some of its tokens."""
        return self.vocabulary() is not None

    def masked(self, inputs: Inputs, rate: float, key_B: Tensor, salt: int) -> Masked:
        """The inputs with a share `rate` of each row's tokens hidden, chosen by a hash of (key, salt, place).

        Raises ValueError where the embedding cannot hide any.
        """
        vocabulary = self.vocabulary()
        if vocabulary is None:
            raise ValueError(f"{type(self).__name__} has no tokens that can be masked")
        from pretrain.masking import mask_ids

        # the text is part of the key, so that two captions of one picture do not lose the same places
        place_L = torch.arange(1, inputs[IDS].shape[1] + 1, device=key_B.device)
        ids_BL, mask_BL = mask_ids(inputs[IDS], vocabulary, rate, key_B + (inputs[IDS] * place_L).sum(dim=1), salt)
        return Masked({**inputs, IDS: ids_BL}, mask_BL, inputs[IDS])

    def patch_width(self) -> int | None:
        """Pixel values of one token, where it is a patch that can be hidden and guessed; else None."""
        return None

    def num_tokens_of(self, image_size: int) -> int | None:  # noqa: ARG002
        """Number of tokens L where it is the same for every input, else None."""
        return None

    @abstractmethod
    def width_of(self, image_size: int) -> int:
        """Width W of a token, or number of channels for pixels."""
