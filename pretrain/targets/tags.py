"""Tag classification: which of many tags apply to a sample (Tag2Text, arXiv:2303.05657), tags parsed from its texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field
from torch import Tensor, nn

from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, TargetModule, of_width
from pretrain.targets.pairs import mean_over_workers

if TYPE_CHECKING:
    from pretrain.columns import Column


class TagClassification(HeadTarget):
    """Asymmetric loss (ASL, arXiv:2009.14119) of one linear score a tag on a stream's vector, summed over tags.

    column: lists of `num_tags` numbers, 1 where the tag applies, 0 elsewhere (`texts.NAME` for tags of each text).
    Easy negatives, of which there are thousands, are damped by gamma_negative and the margin; defaults are ASL's.
    """

    stream: str = "image"
    column: str
    num_tags: int = Field(ge=1)
    gamma_negative: float = Field(4.0, ge=0)
    gamma_positive: float = Field(0.0, ge=0)
    margin: float = Field(0.05, ge=0, lt=1)

    def streams(self) -> tuple[str, ...]:
        return (self.stream,)

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        width = columns[self.column].width
        if width != self.num_tags:
            raise ValueError(f"num_tags is {self.num_tags}, {self.column!r} holds {of_width(width)}")
        values = columns[self.column].values
        wrong = values[(values != 0) & (values != 1)]
        if len(wrong):
            raise ValueError(f"{self.column!r} holds {wrong[0]:g}; a tag is 1 where it applies, 0 elsewhere")

    def build_for(self, model: Model) -> nn.Module:
        return TagLoss(self, model.embed_dim)


class TagLoss(TargetModule):
    """The module of `TagClassification`."""

    def __init__(self, config: TagClassification, embed_dim: int) -> None:
        from timm.loss.asymmetric_loss import AsymmetricLossMultiLabel  # seconds to import, so only where used

        super().__init__()
        self.stream, self.column, self.num_tags = config.stream, config.column, config.num_tags
        self.head = nn.Linear(embed_dim, config.num_tags)
        nn.init.zeros_(self.head.bias)
        self.asymmetric: Any = AsymmetricLossMultiLabel(
            config.gamma_negative, config.gamma_positive, config.margin, reduction="none"
        )

    def forward(self, batch: Encoded) -> Tensor:
        applies_BT = batch.columns[self.column]
        if applies_BT.ndim != 2 or applies_BT.shape[1] != self.num_tags:
            raise ValueError(f"num_tags is {self.num_tags}, the lists of {self.column!r} have {applies_BT.shape[1:]}")
        losses_B = self.asymmetric(self.head(batch.vectors[self.stream]), applies_BT).sum(dim=1)
        return mean_over_workers(losses_B, batch.has(self.stream, self.column), batch.weight_B)
