"""Which argument comes first: what is asked of a store takes the store, what follows a file takes the file.

`tamis curve STORE VALUE`, but `tamis run RECIPE --store STORE`: somebody who has them the other way round is told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

_COMMENT = re.compile(r"--(\s|[^=\n]*\n)")


class TakesSql(TyperCommand):
    """A command with SQL among its arguments, which may begin with a comment: no option has a blank behind its `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"\n{each}" if _COMMENT.match(each) else each for each in args])


def is_store(path: Path | str) -> bool:
    """Whether it is the folder of a store; of any text, however long."""
    return os.path.isfile(os.path.join(path, "store.json"))


def after_store(ctx: typer.Context, value: Any) -> Any:
    """Callback of an argument that stands behind STORE."""
    given: Sequence[Path | str] = [value] if isinstance(value, Path | str) else value or []
    first = ctx.params.get("store")
    for each in given:
        if first is not None and not is_store(first) and is_store(each):
            raise typer.BadParameter(f"{each} is a store, what stands before it is none: the store comes first")
    return value


def before_store(value: Path) -> Path:
    """Callback of a file that stands first, where the store is an option."""
    if is_store(value):
        raise typer.BadParameter(f"{value} is a store: the file comes first here, then --store {value}")
    return value
