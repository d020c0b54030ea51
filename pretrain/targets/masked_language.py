"""Masked language modelling, of texts alone (BERT, arXiv:1810.04805) or with other streams to look at (ALBEF)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, Reads, TargetModule, masked
from pretrain.targets.masked import WordHead, nothing, tokens_with_context, width_seen, word_loss


class MaskedLanguage(HeadTarget):
    """-log p(token) at the masked tokens of `stream`, averaged over them.

    given: streams that the fusion shows beside it, whole; rows count that have all of them, and only as their own true
    pairs. None: the stream's encoder alone, so rows with nothing but a text count. rate: share of the tokens that is
    masked (BERT: 0.15); at 0 the loss is 0.
    """

    stream: str = "text"
    given: tuple[str, ...] = ("image",)
    rate: float = Field(0.15, ge=0, lt=1)

    @model_validator(mode="after")
    def _not_itself(self) -> Self:
        if self.stream in self.given:
            raise ValueError(f"given: {self.stream!r} is what is masked; shown whole, it would give the answer")
        return self

    def streams(self) -> tuple[str, ...]:
        return ()

    def reads(self) -> Reads:
        return Reads(
            hidden=self.given, masked={self.stream: self.rate}, ids=(self.stream,),
            fused=(self.stream,) if self.given else (),
        )  # fmt: skip

    def build_for(self, model: Model) -> nn.Module:
        width = width_seen(model, self.stream, self.given, is_fused=False)
        return MaskedLanguageLoss(self, width, model.vocabulary(self.stream).size)


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
