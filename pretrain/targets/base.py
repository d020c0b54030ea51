"""What every target is, and what it sees of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from pretrain.component import Component
from pretrain.embeddings.base import Tokens


@dataclass
class Encoded:
    """One worker's share of a batch: row r of every stream belongs together.

    vectors: stream -> unit vectors (B, D), float32. group_B: int64, equal for rows of one sample.
    present: stream -> bool (B,), False where the row has nothing in this stream (its vector means nothing); a stream
    that is not named here is there in every row. columns: name -> (B, ...), what the version stores beside the sample.
    tokens: stream -> unit vectors of its tokens, for targets that ask for them. keys: stream -> unit vectors (B, D) of
    the momentum model, without gradient, for targets that ask for them.
    """

    vectors: dict[str, Tensor]
    group_B: Tensor
    present: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)
    keys: dict[str, Tensor] = field(default_factory=dict)

    def has(self, *streams: str) -> Tensor:
        """bool (B,): rows that have something in all of these streams."""
        found = torch.ones(len(self.group_B), dtype=torch.bool, device=self.group_B.device)
        for stream in streams:
            if stream in self.present:
                found = found & self.present[stream]
        return found


class Target(Component, ABC):
    """Base of all targets: a config whose module maps `Encoded` to a scalar loss.

    The mean of the workers' losses, and of their gradients (as DistributedDataParallel takes it), must equal what one
    process would compute on the whole batch.
    """

    reads_tokens: ClassVar[bool] = False
    """Whether it needs `Encoded.tokens` of its streams."""

    @abstractmethod
    def streams(self) -> tuple[str, ...]:
        """Streams that the target reads."""

    def columns(self) -> tuple[str, ...]:
        """Columns of a sample that the target reads."""
        return ()

    def momentum(self) -> float | None:
        """Of the momentum model (share of its old weights that each step keeps), None where none is needed."""
        return None

    @abstractmethod
    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        """The module: forward(Encoded) -> scalar. `trained_log_scale` comes with pre-trained weights."""


class TargetModule(nn.Module):
    """Base of the modules of targets."""

    def after_step(self) -> None:
        """Called after each optimizer step, to keep parameters in their range."""

    def set_progress(self, done: float) -> None:
        """Called before each step with the share of all steps that is done, 0 to 1, for weights that change."""
