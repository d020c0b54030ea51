"""Several streams bound to one anchor (LanguageBind, arXiv:2310.01852), alone and together (VALOR's MGA,
arXiv:2304.08345, section 3.2.1)."""

from __future__ import annotations

import dataclasses
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from pretrain.targets.base import Encoded, Target, TargetModule
from pretrain.targets.info_nce import InfoNCELoss
from pretrain.targets.pairs import CHUNK_ROWS, INITIAL_LOG_SCALE, MAX_LOG_SCALE


class Binding(Target):
    """Mean over `groups` of the InfoNCE between the anchor and each group of streams. One logit scale for all.

    A group of several streams, such as [video, audio], is the unit sum of their vectors; a row counts for the groups
    all of whose streams it has. LanguageBind freezes the anchor's tower: `freeze: [model.streams.text.*]`.
    """

    anchor: str = "text"
    groups: tuple[tuple[str, ...], ...] = Field(min_length=1)
    log_scale: float = Field(INITIAL_LOG_SCALE, ge=0, le=MAX_LOG_SCALE)
    chunk_rows: int | None = Field(CHUNK_ROWS, ge=1)

    @model_validator(mode="after")
    def _no_empty_group(self) -> Self:
        if any(not group or self.anchor in group or len(set(group)) != len(group) for group in self.groups):
            raise ValueError(f"each of groups is some streams other than the anchor {self.anchor!r}, not {self.groups}")
        return self

    def streams(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.anchor, *(name for group in self.groups for name in group))))

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        start = self.log_scale if trained_log_scale is None else min(max(trained_log_scale, 0.0), MAX_LOG_SCALE)
        return BindingLoss(self, start)


class BindingLoss(TargetModule):
    """The module of `Binding`."""

    def __init__(self, config: Binding, log_scale: float) -> None:
        super().__init__()
        self.anchor, self.groups = config.anchor, config.groups
        self.contrast = InfoNCELoss("group", self.anchor, log_scale, config.chunk_rows)

    def forward(self, batch: Encoded) -> Tensor:
        losses = []
        for group in self.groups:
            together_BD = F.normalize(torch.stack([batch.vectors[name] for name in group]).sum(dim=0), dim=-1)
            vectors = {"group": together_BD, self.anchor: batch.vectors[self.anchor]}
            present = {**batch.present, "group": batch.has(*group)}
            losses.append(self.contrast(dataclasses.replace(batch, vectors=vectors, present=present)))
        return torch.stack(losses).mean()

    def after_step(self) -> None:
        self.contrast.after_step()
