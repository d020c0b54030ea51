"""`tamis export`: what a store knows, in the forms that others publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

app = typer.Typer(help="Write what a store knows in the forms that others publish.", no_args_is_help=True)


@app.callback()
def _several() -> None:
    """Keep the name of the one command there is."""


@app.command("entry-counts")
def entry_counts(
    store: Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON file to write.")],
    of: Annotated[
        str,
        typer.Option(help="texts (of the balanced pool) | passed (all rules but balancing) | kept."),
    ] = "passed",
    language: Annotated[str | None, typer.Option(help="Only this one, in MetaCLIP 1's form: entry -> count.")] = None,
) -> None:
    """MetaCLIP's datacard: texts for each metadata entry, as JSON: language -> entry -> count."""
    from flows.explained import explained
    from pipelines.datacard import Which, write_entry_counts
    from pipelines.store import Store

    if of not in ("texts", "passed", "kept"):
        raise typer.BadParameter(f"{of!r} is none of texts, passed, kept", param_hint="--of")
    with explained():
        number = write_entry_counts(Store.open(store), output, cast("Which", of), language)
        print(f"{number:,} entries in {output}", flush=True)
