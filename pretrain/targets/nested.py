"""Targets made of another target: what the config and the module of all of them pass on."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer
from torch import nn

from pretrain.component import parser, to_spec
from pretrain.targets.base import HeadTarget, Reads, Target, TargetModule


class NestedTarget(HeadTarget):
    """Base of targets around one other `target`."""

    target: Annotated[Target, BeforeValidator(parser(Target, "pretrain.targets")), PlainSerializer(to_spec)]

    def streams(self) -> tuple[str, ...]:
        return self.target.streams()

    def token_streams(self) -> tuple[str, ...]:
        return self.target.token_streams()

    def columns(self) -> tuple[str, ...]:
        return self.target.columns()

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
