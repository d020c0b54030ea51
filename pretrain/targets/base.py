"""What every target is, and what it sees of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pretrain.component import Component


@dataclass
class Encoded:
    """One worker's share of a batch: row r of every stream belongs together.

    vectors: stream -> unit vectors (B, D), float32. group_B: int64, equal for rows of one sample.
    """

    vectors: dict[str, Tensor]
    group_B: Tensor


class Target(Component):
    """Base of all targets: a config whose module maps `Encoded` to a scalar loss.

    The mean of the workers' losses, and of their gradients (as DistributedDataParallel takes it), must equal what one
    process would compute on the whole batch.
    """

    def streams(self) -> tuple[str, ...]:
        """Streams that the target reads."""
        raise NotImplementedError

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        """The module: forward(Encoded) -> scalar. `trained_log_scale` comes with pre-trained weights."""
        raise NotImplementedError


class TargetModule(nn.Module):
    """Base of the modules of targets."""

    def after_step(self) -> None:
        """Called after each optimizer step, to keep parameters in their range."""
