"""ProtoCLIP: rows against the prototypes of clusters, taught by the other side's clusters (arXiv:2206.10996).

Shape suffixes: B rows of this worker, N rows of all, K clusters, D common dimension, E width of a teacher's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, TargetModule, check_whole, of_width
from pretrain.targets.gather import gather_rows
from pretrain.targets.pairs import MAX_LOG_SCALE, mean_over_workers

if TYPE_CHECKING:
    from pretrain.columns import Column

_FAR = float("-inf")


class Prototypes(HeadTarget):
    """Cross-entropy of a row's similarities to `a`'s and `b`'s prototypes; each side is told by the other's clusters.

    clusters_a, clusters_b: columns with the cluster number (0 to num_clusters - 1) of each row, from k-means of an
    earlier stage or of stored embeddings (an episode is a version). A prototype is the mean of the student's own
    vectors of its cluster (back translation), taken over the last episode of `episode_steps` steps; before the first
    has ended the loss is 0, and a cluster that nobody was of is left out. teacher_a, teacher_b: columns of the
    embeddings that were clustered; with them and `teacher_temperature` > 0 the wanted distribution is soft over similar
    clusters, else one-hot. temperature: of the students.
    """

    a: str = "image"
    b: str = "text"
    clusters_a: str
    clusters_b: str
    num_clusters: int = Field(ge=2)
    episode_steps: int = Field(100, ge=1)
    temperature: float = Field(0.07, gt=0)
    teacher_a: str | None = None
    teacher_b: str | None = None
    teacher_width: int | None = Field(None, ge=1)
    teacher_temperature: float = Field(0.0, ge=0)

    def streams(self) -> tuple[str, ...]:
        return (self.a, self.b)

    def columns(self) -> tuple[str, ...]:
        wanted = (self.clusters_a, self.clusters_b, self.teacher_a, self.teacher_b)
        return tuple(dict.fromkeys(name for name in wanted if name is not None))

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        for name in (self.clusters_a, self.clusters_b):
            numbers = columns[name].values[columns[name].present]
            if columns[name].width is not None:
                raise ValueError(f"{name!r} holds {of_width(columns[name].width)}, no cluster numbers")
            check_whole(columns[name], name, "cluster number")
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < self.num_clusters:
                raise ValueError(
                    f"{name!r} holds clusters {numbers.min():.0f} to {numbers.max():.0f}, num_clusters is "
                    f"{self.num_clusters}"
                )
        for teacher in (self.teacher_a, self.teacher_b):
            if teacher is not None and columns[teacher].width != self.teacher_width:
                width = columns[teacher].width
                raise ValueError(f"teacher_width is {self.teacher_width}, {teacher!r} holds {of_width(width)}")

    def build_for(self, model: Model) -> nn.Module:
        teachers = (self.teacher_a, self.teacher_b, self.teacher_width)
        if self.teacher_temperature > 0 and None in teachers:
            raise ValueError("teacher_temperature needs teacher_a, teacher_b and teacher_width")
        return PrototypesLoss(self, model.embed_dim)


class PrototypesLoss(TargetModule):
    """The module of `Prototypes`. Its sums and prototypes are part of its state, the same on every worker."""

    def __init__(self, config: Prototypes, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(1 / config.temperature).log())
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for side in ("a", "b"):
            for kind, width in (("student", embed_dim), ("teacher", config.teacher_width or 1)):
                self.register_buffer(f"sum_{kind}_{side}", torch.zeros(config.num_clusters, width))
                self.register_buffer(f"prototype_{kind}_{side}", torch.zeros(config.num_clusters, width))
            self.register_buffer(f"count_{side}", torch.zeros(config.num_clusters))
            self.register_buffer(f"is_there_{side}", torch.zeros(config.num_clusters, dtype=torch.bool))
        self._seen = False

    def forward(self, batch: Encoded) -> Tensor:
        config = self.config
        counts_B = batch.has(config.a, config.b, *config.columns())
        labels = {"a": self._labels(batch, config.clusters_a), "b": self._labels(batch, config.clusters_b)}
        if self.training:
            self._add(batch, labels, counts_B)
        # each side's vectors against its own prototypes; the other side says which of them is right
        losses_B = self._direction(batch.vectors[config.a], labels["b"], "b")
        losses_B = losses_B + self._direction(batch.vectors[config.b], labels["a"], "a")
        there_B = self.get_buffer("is_there_b")[labels["b"]] & self.get_buffer("is_there_a")[labels["a"]]
        losses_B = losses_B.masked_fill(~there_B, 0.0)
        return mean_over_workers(losses_B / 2, counts_B & there_B, batch.weight_B)

    def _labels(self, batch: Encoded, column: str) -> Tensor:
        label_B = batch.columns[column].long()
        if label_B.numel() and not 0 <= int(label_B.min()) <= int(label_B.max()) < self.config.num_clusters:
            raise ValueError(
                f"{column!r} holds cluster {int(label_B.max())}, num_clusters is {self.config.num_clusters}"
            )
        return label_B

    def _direction(self, vector_BD: Tensor, label_B: Tensor, side: str) -> Tensor:
        there_K = self.get_buffer(f"is_there_{side}")
        safe_K = there_K if bool(there_K.any()) else torch.ones_like(there_K)  # before the first episode has ended
        logits_BK = self.log_scale.exp() * vector_BD @ self.get_buffer(f"prototype_student_{side}").T
        log_BK = logits_BK.masked_fill(~safe_K, _FAR).log_softmax(dim=1).masked_fill(~safe_K, 0.0)
        return -(self._wanted(label_B, side, safe_K) * log_BK).sum(dim=1)

    def _wanted(self, label_B: Tensor, side: str, there_K: Tensor) -> Tensor:
        if self.config.teacher_temperature <= 0:
            return F.one_hot(label_B, self.config.num_clusters).float()
        teacher_KE = F.normalize(self.get_buffer(f"prototype_teacher_{side}"), dim=1)
        similarity_BK = teacher_KE[label_B] @ teacher_KE.T / self.config.teacher_temperature
        return similarity_BK.masked_fill(~there_K, _FAR).softmax(dim=1)

    @torch.no_grad()
    def _add(self, batch: Encoded, labels: dict[str, Tensor], counts_B: Tensor) -> None:
        """Add what all workers see to the sums of this episode. The clusters of `b` teach `a`, so their prototypes are
        means of `a`'s vectors, and the other way round."""
        config = self.config
        counts_N = gather_rows(counts_B.long()).bool()
        for side, stream, teacher in (("b", config.a, config.teacher_b), ("a", config.b, config.teacher_a)):
            label_N = gather_rows(labels[side])[counts_N]
            self.get_buffer(f"count_{side}").index_add_(0, label_N, torch.ones_like(label_N, dtype=torch.float32))
            vectors = gather_rows(batch.vectors[stream].detach())[counts_N]
            self.get_buffer(f"sum_student_{side}").index_add_(0, label_N, vectors)
            if teacher is not None and config.teacher_width is not None:
                embedding = F.normalize(gather_rows(batch.columns[teacher])[counts_N], dim=1)
                self.get_buffer(f"sum_teacher_{side}").index_add_(0, label_N, embedding)
        self._seen = True

    @torch.no_grad()
    def after_step(self) -> None:
        self.log_scale.clamp_(0.0, MAX_LOG_SCALE)
        if not self._seen:
            return
        self._seen = False
        steps = self.get_buffer("steps")
        steps += 1
        if int(steps) % self.config.episode_steps == 0:
            self.end_episode()

    @torch.no_grad()
    def end_episode(self) -> None:
        """Make prototypes from this episode's sums, and start the next one."""
        for side in ("a", "b"):
            count_K = self.get_buffer(f"count_{side}")
            self.get_buffer(f"is_there_{side}").copy_(count_K > 0)
            for kind in ("student", "teacher"):
                total = self.get_buffer(f"sum_{kind}_{side}")
                mean = total / count_K.clamp(min=1)[:, None]
                self.get_buffer(f"prototype_{kind}_{side}").copy_(mean)
                total.zero_()
            count_K.zero_()
