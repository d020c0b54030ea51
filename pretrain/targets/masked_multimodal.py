"""Masked multimodal modelling: text and picture both masked, each guessed from what is left of both (FLAVA,
arXiv:2112.04482, section 3.2)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, Reads, TargetModule, masked
from pretrain.targets.masked import WordHead, nothing, patch_loss, width_seen, word_loss


class MaskedMultimodal(HeadTarget):
    """Loss of the masked words (`MaskedLanguage`) plus that of the masked patches (`MaskedImage`), fused both masked.

    A row without one of the two counts for the other alone: the missing one is not seen. Rates: FLAVA's. FLAVA predicts
    codes of patches (dVAE); here it is their pixels.
    """

    text: str = "text"
    image: str = "image"
    text_rate: float = Field(0.15, ge=0, lt=1)
    image_rate: float = Field(0.4, ge=0, lt=1)

    def streams(self) -> tuple[str, ...]:
        return ()

    def reads(self) -> Reads:
        both = (self.text, self.image)
        return Reads(masked={self.text: self.text_rate, self.image: self.image_rate}, ids=(self.text,), fused=both)

    def build_for(self, model: Model) -> nn.Module:
        width = width_seen(model, self.text, (), is_fused=True)
        return MaskedMultimodalLoss(self, width, model.vocabulary(self.text).size, model.patch_width(self.image))


class MaskedMultimodalLoss(TargetModule):
    """The module of `MaskedMultimodal`."""

    def __init__(self, config: MaskedMultimodal, width: int, vocabulary_size: int, patch_width: int) -> None:
        super().__init__()
        self.text, self.image = config.text, config.image
        self.words, self.pixels = WordHead(width, vocabulary_size), nn.Linear(width, patch_width)

    def forward(self, batch: Encoded) -> Tensor:
        found = {name: batch.tokens[masked(name)] for name in (self.text, self.image) if masked(name) in batch.tokens}
        if len(found) < 2:
            return nothing(batch)
        fused = batch.fuse(found).tokens
        words = word_loss(batch, self.text, self.words(fused[self.text].x_BLW), batch.has(self.text))
        return words + patch_loss(batch, self.image, self.pixels(fused[self.image].x_BLW), batch.has(self.image))
