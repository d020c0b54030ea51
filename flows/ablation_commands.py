"""The command `tamis ablate`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.argument_order import before_store


def register(
    app: typer.Typer,
    explained: Callable[[], AbstractContextManager[None]],
    show: Callable[[list[dict[str, Any]]], None],
    say: Callable[[str], None],
) -> None:
    """Add the command to the command line."""

    @app.command()
    def ablate(
        ablation: Annotated[
            Path,
            typer.Argument(
                help="YAML: policies, training, budget, seeds, evaluation.", show_default=False, callback=before_store
            ),
        ],
        store: Annotated[Path | None, typer.Option("--store", help="Folder of the store, if not the file's.")] = None,
        on: Annotated[
            str | None, typer.Option("--on", help="Dataset version to evaluate on, if not the file's.")
        ] = None,
        address: Annotated[
            str,
            typer.Option("--address", help="serial | local | auto | ray://HOST:PORT; serial trains in one process."),
        ] = "serial",
    ) -> None:
        """Train on what several policies keep, with one budget and several seeds, and compare; resumable."""
        with explained():
            from flows.ablate import ablate as work
            from pipelines.ablation_report import shown

            show(shown(work(ablation, store, on, address, say).rows))
