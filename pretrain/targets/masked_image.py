"""Masked image modelling: the pixels of hidden patches (MAE, arXiv:2111.06377, section 3; SimMIM, arXiv:2111.09886)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from pretrain.model import Model
from pretrain.targets.base import Encoded, TargetModule, masked
from pretrain.targets.masked import MaskedStream, nothing, patch_loss, tokens_with_context


class MaskedImage(MaskedStream):
    """Squared error between predicted and true pixels of masked patches, each patch's pixels normalised by themselves.

    As in SimMIM the encoder sees a learned vector where a patch is hidden, and one linear layer predicts; MAE's encoder
    sees the visible patches only. given: streams shown whole beside it through the fusion. rate: MAE hides 0.75,
    SimMIM 0.6.
    """

    stream: str = "image"
    given: tuple[str, ...] = ()
    rate: float = Field(0.6, ge=0, lt=1)

    def build_for(self, model: Model) -> nn.Module:
        return MaskedImageLoss(self, self.width_of(model), model.patch_width(self.stream))


class MaskedImageLoss(TargetModule):
    """The module of `MaskedImage`."""

    def __init__(self, config: MaskedImage, width: int, patch_width: int) -> None:
        super().__init__()
        self.stream, self.given = config.stream, config.given
        self.head = nn.Linear(width, patch_width)

    def forward(self, batch: Encoded) -> Tensor:
        if masked(self.stream) not in batch.tokens:
            return nothing(batch)
        tokens = tokens_with_context(batch, self.stream, self.given)
        return patch_loss(batch, self.stream, self.head(tokens.x_BLW), batch.has(self.stream, *self.given))
