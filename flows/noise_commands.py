"""The command `tamis noise`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from flows.argument_order import after_store


def register(
    app: typer.Typer, explained: Callable[[], AbstractContextManager[None]], say: Callable[[str], None]
) -> None:
    """Add the command to `app`."""

    @app.command()
    def noise(
        store: Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)],
        version: Annotated[str, typer.Argument(help="The version to make noisy.", callback=after_store)] = "latest",
        shares: Annotated[str, typer.Option("--shares", help="Shares of captions, such as 0,0.05,0.1,0.2.")] = (
            "0,0.05,0.1,0.2"
        ),
        seed: Annotated[int, typer.Option("--seed", help="Another one exchanges other captions.")] = 0,
    ) -> None:
        """Seal versions in which a planned share of the captions belongs to other samples, each part of the next."""
        with explained():
            from pipelines.noise import add_noise
            from pipelines.sources import SourceError
            from pipelines.store import Store

            try:
                wanted = [float(each) for each in shares.split(",")]
            except ValueError as error:
                raise SourceError(f"--shares: {error}: give numbers such as 0,0.05,0.1,0.2") from error
            found = Store.open(store)
            with found.locked():
                add_noise(found, version, wanted, seed, say)
