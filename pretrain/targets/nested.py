"""Targets made of another target: what the config and the module of all of them pass on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, PlainSerializer
from torch import nn

from pretrain.component import parser, to_spec
from pretrain.targets.base import HeadTarget, Reads, Target, TargetModule

if TYPE_CHECKING:
    from pretrain.columns import Column


class NestedTarget(HeadTarget):
    """Base of targets around one other `target`."""

    target: Annotated[Target, BeforeValidator(parser(Target, "pretrain.targets")), PlainSerializer(to_spec)]

    def streams(self) -> tuple[str, ...]:
        return self.target.streams()

    def token_streams(self) -> tuple[str, ...]:
        return self.target.token_streams()

    def columns(self) -> tuple[str, ...]:
        return self.target.columns()

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        self.target.check_columns(columns)

    def reads(self) -> Reads:
        return self.target.reads()

    def momentum(self) -> float | None:
        return self.target.momentum()


class NestedModule(TargetModule):
    """Base of their modules."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def after_step(self) -> None:
        if isinstance(self.inner, TargetModule):
            self.inner.after_step()

    def set_progress(self, done: float) -> None:
        if isinstance(self.inner, TargetModule):
            self.inner.set_progress(done)
