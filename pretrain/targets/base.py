"""What every target is, and what it sees of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from pretrain.component import Component
from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import Fused

if TYPE_CHECKING:
    from pretrain.columns import Column
    from pretrain.joint import Joint
    from pretrain.model import Model


def hidden(stream: str) -> str:
    """Where `Encoded.tokens` has the encoder's tokens of a stream: as they are, not projected, not of unit length."""
    return f"{stream}:hidden"


def masked(stream: str) -> str:
    """Where `Encoded.tokens` has a stream's tokens with some masked, and `Encoded.columns` which ones (bool (B, L))."""
    return f"{stream}:masked"


def truth(stream: str) -> str:
    """Where `Encoded.columns` has what stood at each place of a stream before masking (see `embeddings.Masked`)."""
    return f"{stream}:truth"


def ids(name: str) -> str:
    """Where `Encoded.columns` has the token numbers (B, L) of a stream, or of the target embedding (`target`)."""
    return f"{name}:ids"


def of_width(width: int | None) -> str:
    """What a column holds, for messages."""
    return "single numbers" if width is None else f"lists of {width} numbers"


def check_vectors(columns: Mapping[str, Column], *names: str) -> None:
    """Raises ValueError unless these columns hold vectors, all of one width."""
    widths = {name: columns[name].width for name in names}
    if None in widths.values() or len(set(widths.values())) > 1:
        held = ", ".join(f"{name!r} holds {of_width(width)}" for name, width in widths.items())
        raise ValueError(f"vectors{' of one width' if len(widths) > 1 else ''} are needed: {held}")


def check_whole(column: Column, name: str, meaning: str) -> None:
    """Raises ValueError unless all that a column holds is whole numbers. meaning: what they are, for the message."""
    numbers = column.values[column.present]
    broken = numbers[numbers % 1 != 0]
    if len(broken):
        raise ValueError(f"{name!r} holds {broken.flat[0]:g}, which is no whole number, so no {meaning}")


@dataclass(frozen=True)
class Reads:
    """What a target needs beyond vectors.

    hidden: streams whose encoder's tokens it reads. masked: stream -> share of its tokens that is hidden from the
    model. ids: names whose token numbers it reads. fused: streams whose tokens it wants back from the fusion; fuses:
    whether it uses the fusion at all. memory: streams that the decoder looks at for it; none if it does not write.
    """

    hidden: tuple[str, ...] = ()
    masked: dict[str, float] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()
    fuses: bool = False
    memory: tuple[str, ...] = ()


@dataclass
class Encoded:
    """One worker's share of a batch: row r of every stream belongs together.

    vectors: stream -> unit vectors (B, D), float32. group_B: int64, equal for rows of one sample.
    present: stream -> bool (B,), False where the row has nothing in this stream (its vector means nothing); a stream
    that is not named here is there in every row. columns: name -> (B, ...), what the version stores beside the sample.
    tokens: stream -> unit vectors of its tokens, for targets that ask for them; also under `hidden(stream)` and
    `masked(stream)`. keys: stream -> unit vectors (B, D) of the momentum model, without gradient, for targets that ask
    for them. weight_B: how much each row counts, None: all alike. joint: the model's fusion and decoder.
    """

    vectors: dict[str, Tensor]
    group_B: Tensor
    present: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)
    keys: dict[str, Tensor] = field(default_factory=dict)
    weight_B: Tensor | None = None
    joint: Joint | None = None
    is_bf16: bool = False

    def fuse(self, tokens: dict[str, Tokens], present: dict[str, Tensor] | None = None) -> Fused:
        """The streams' tokens fused, in float32. present: by default this batch's."""
        assert self.joint is not None  # the config was checked
        with torch.autocast(self.group_B.device.type, dtype=torch.bfloat16, enabled=self.is_bf16):
            fused = self.joint.fuse(tokens, self.present if present is None else present)
        back = {name: Tokens(each.x_BLW.float(), each.mask_BL) for name, each in fused.tokens.items()}
        return Fused(fused.pooled_BW.float(), back)

    def next_token_scores(self, ids_BT: Tensor, memory: dict[str, Tokens]) -> Tensor:
        """(B, T, V) scores of the token after each of the target tokens, in float32."""
        assert self.joint is not None
        with torch.autocast(self.group_B.device.type, dtype=torch.bfloat16, enabled=self.is_bf16):
            scores = self.joint.next_token_scores(ids_BT, memory, self.present)
        return scores.float()

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

    def token_streams(self) -> tuple[str, ...]:
        """Streams whose unit token vectors it reads."""
        return self.streams() if self.reads_tokens else ()

    def columns(self) -> tuple[str, ...]:
        """Columns of a sample that the target reads."""
        return ()

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        """Asked before training, of what a version holds. Raises ValueError where the target cannot use it."""

    def reads(self) -> Reads:
        """What else it needs: tokens, masked streams, fusion, decoder."""
        return Reads()

    def momentum(self) -> float | None:
        """Of the momentum model (share of its old weights that each step keeps), None where none is needed."""
        return None

    @abstractmethod
    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        """The module: forward(Encoded) -> scalar. `trained_log_scale` comes with pre-trained weights."""

    def build_for(self, model: Model) -> nn.Module:
        """The module for a model; targets whose heads depend on the model's widths and vocabularies build it here."""
        return self.build(model.trained_log_scale())


class TwoStreams(Target):
    """Base of targets between two different streams, `a` and `b`."""

    a: str
    b: str

    @model_validator(mode="after")
    def _two_streams(self) -> Self:
        if self.a == self.b:
            raise ValueError(f"a and b must be two streams, both are {self.a!r}")
        return self

    def streams(self) -> tuple[str, ...]:
        return (self.a, self.b)


class HeadTarget(Target):
    """Base of targets with a head of their own, whose shape depends on the model."""

    def build(self, trained_log_scale: float | None = None) -> nn.Module:  # noqa: ARG002
        raise TypeError(f"{type(self).__name__} has a head that depends on the model: use build_for")

    @abstractmethod
    def build_for(self, model: Model) -> nn.Module:
        """The module for a model. Raises ValueError where the model lacks something."""


class TargetModule(nn.Module):
    """Base of the modules of targets."""

    from_before: tuple[str, ...] = ()
    """Parts that are not trained here: `init` must hold them, where this target stands at the same place."""

    def after_step(self) -> None:
        """Called after each optimizer step, to keep parameters in their range."""

    def set_progress(self, done: float) -> None:
        """Called before each step with the share of all steps that is done, 0 to 1, for weights that change."""
