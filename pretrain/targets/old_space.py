"""A projection from a new model's space into an older one's, so that an index made with the older model stays in use
(XBT, arXiv:2405.14715: it is learned from texts alone, and carries pictures over as well).

Two stages: first the projection, of texts, against the older model's stored vectors of them; then, if wanted, pictures
and texts against each other behind the projection, with the model adapted (LoRA) and the older model out of sight. The
paper's losses are not published in full: here both are InfoNCE, the first with the squared distance added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, TargetModule, of_width
from pretrain.targets.info_nce import InfoNCELoss
from pretrain.targets.pairs import CHUNK_ROWS, INITIAL_LOG_SCALE, MAX_LOG_SCALE, mean_over_workers

if TYPE_CHECKING:
    from pretrain.columns import Column

_PREFIX = "projection."


class OldSpace(HeadTarget):
    """Without `other`: vectors of `stream`, projected, against the column `older` (InfoNCE, and squared distance).

    With `other`: the projected vectors of both streams against each other; the projection stays as it was loaded from
    the stage before, where this target must stand at the same place. older_dim: width of the older vectors. hidden:
    width of the projection's one hidden layer; by default four times `older_dim`.
    """

    stream: str = "text"
    older: str = "texts.older_text"
    older_dim: int = Field(ge=2)
    hidden: int | None = Field(None, ge=2)
    other: str | None = None
    log_scale: float = Field(INITIAL_LOG_SCALE, ge=0, le=MAX_LOG_SCALE)
    chunk_rows: int | None = Field(CHUNK_ROWS, ge=1)

    def streams(self) -> tuple[str, ...]:
        return (self.stream,) if self.other is None else (self.stream, self.other)

    def columns(self) -> tuple[str, ...]:
        return (self.older,) if self.other is None else ()

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        if self.other is None and columns[self.older].width != self.older_dim:
            raise ValueError(
                f"older_dim is {self.older_dim}, {self.older!r} holds {of_width(columns[self.older].width)}"
            )

    def build_for(self, model: Model) -> nn.Module:
        return OldSpaceLoss(self, model.embed_dim)


class Projection(nn.Module):
    """Unit vectors (B, D) of the new model to unit vectors (B, older D): a linear map and a correction to it."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.straight = nn.Linear(width, out, bias=False)
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, out)
        nn.init.zeros_(self.outer.weight)  # begins as the linear map

    def forward(self, new_BD: Tensor) -> Tensor:
        return F.normalize(self.straight(new_BD) + self.outer(F.gelu(self.inner(new_BD))), dim=-1)


class OldSpaceLoss(TargetModule):
    """The module of `OldSpace`."""

    def __init__(self, config: OldSpace, width: int) -> None:
        super().__init__()
        self.stream, self.older, self.other = config.stream, config.older, config.other
        self.projection = Projection(width, config.hidden or 4 * config.older_dim, config.older_dim)
        if config.other is not None:
            self.projection.requires_grad_(False)
            self.from_before = ("projection",)
        self.contrast = InfoNCELoss("projected", "wanted", config.log_scale, config.chunk_rows)

    def forward(self, batch: Encoded) -> Tensor:
        projected_BD = self.projection(batch.vectors[self.stream])
        if self.other is not None:
            return self._contrast(batch, projected_BD, self.projection(batch.vectors[self.other]), self.other)
        older_BD = batch.columns[self.older]
        if older_BD.shape[1] != projected_BD.shape[1]:
            raise ValueError(
                f"column {self.older!r} has {older_BD.shape[1]} numbers, older_dim says {projected_BD.shape[1]}"
            )
        older_BD = F.normalize(older_BD, dim=-1)
        counts_B = batch.has(self.stream, self.older)
        distance = mean_over_workers((projected_BD - older_BD).square().sum(dim=1), counts_B, batch.weight_B)
        return self._contrast(batch, projected_BD, older_BD, self.older) + distance

    def _contrast(self, batch: Encoded, projected_BD: Tensor, wanted_BD: Tensor, name: str) -> Tensor:
        present = {"projected": batch.has(self.stream), "wanted": batch.has(name)}
        vectors = {"projected": projected_BD, "wanted": wanted_BD}
        loss: Tensor = self.contrast(dataclasses.replace(batch, vectors=vectors, present=present))
        return loss

    def after_step(self) -> None:
        self.contrast.after_step()


def load_projection(run: Path) -> Projection:
    """The projection that a run has learned. Raises ValueError where it has none, or several."""
    file = run / "model.safetensors"
    stored = {name: value for name, value in load_file(file).items() if name.startswith("targets.")}
    places = sorted({name.partition(_PREFIX)[0] for name in stored if f"_OldSpace.{_PREFIX}" in name})
    if len(places) != 1:
        raise ValueError(f"{file}: {len(places)} projections into an older space, not one")
    state = {
        name.removeprefix(places[0] + _PREFIX): value for name, value in stored.items() if places[0] + _PREFIX in name
    }
    out, width = state["straight.weight"].shape
    projection = Projection(width, len(state["inner.bias"]), out)
    projection.load_state_dict(state)
    return projection.eval()


@torch.no_grad()
def in_old_space(run: Path, vectors_ND: np.ndarray) -> np.ndarray:
    """(N, older D) float32 unit vectors: a new model's vectors, of texts or pictures, for an older index."""
    found: np.ndarray = load_projection(run)(torch.from_numpy(np.asarray(vectors_ND, dtype=np.float32))).numpy()
    return found
