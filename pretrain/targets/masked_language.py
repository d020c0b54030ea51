"""Masked language modelling, of texts alone (BERT, arXiv:1810.04805) or with other streams to look at (ALBEF)."""

from __future__ import annotations

import dataclasses

from pydantic import Field
from torch import Tensor, nn

from pretrain.model import Model
from pretrain.targets.base import Encoded, Reads, TargetModule, masked
from pretrain.targets.masked import MaskedStream, WordHead, nothing, tokens_with_context, word_loss


class MaskedLanguage(MaskedStream):
    """-log p(token) at the masked tokens of `stream`, averaged over them.

    given: streams that the fusion shows beside it, whole; rows count that have all of them, and only as their own true
    pairs. None: the stream's encoder alone, so rows with nothing but a text count. rate: share of the tokens that is
    masked (BERT: 0.15); at 0 the loss is 0.
    """

    stream: str = "text"
    given: tuple[str, ...] = ("image",)
    rate: float = Field(0.15, ge=0, lt=1)

    def reads(self) -> Reads:
        return dataclasses.replace(super().reads(), ids=(self.stream,))

    def build_for(self, model: Model) -> nn.Module:
        return MaskedLanguageLoss(self, self.width_of(model), model.vocabulary(self.stream).size)


class MaskedLanguageLoss(TargetModule):
    """The module of `MaskedLanguage`."""

    def __init__(self, config: MaskedLanguage, width: int, vocabulary_size: int) -> None:
        super().__init__()
        self.stream, self.given = config.stream, config.given
        self.head = WordHead(width, vocabulary_size)

    def forward(self, batch: Encoded) -> Tensor:
        if masked(self.stream) not in batch.tokens:
            return nothing(batch)
        tokens = tokens_with_context(batch, self.stream, self.given)
        return word_loss(batch, self.stream, self.head(tokens.x_BLW), batch.has(self.stream, *self.given))
