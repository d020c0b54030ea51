"""The commands about trained models: `tamis eval` and `tamis seen`."""

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
    """Add the commands to the command line."""

    @app.command("eval")
    def evaluate(
        config: Annotated[
            Path,
            typer.Argument(
                help="A training config, or the folder of a finished run.", show_default=False, callback=before_store
            ),
        ],
        store: Annotated[Path, typer.Option("--store", help="Folder of the store.")],
        on: Annotated[
            list[str] | None,
            typer.Option("--on", help="Dataset version, if not the run's own; name or path. With --stages: one more."),
        ] = None,
        labels: Annotated[
            str | None, typer.Option("--labels", help="Column of the classes (default: category).")
        ] = None,
        stages: Annotated[
            bool,
            typer.Option("--stages", help="Every stage on every stage's version: what was forgotten on the way."),
        ] = False,
    ) -> None:
        """Evaluate a trained model: every figure with chance and interval; see the views `metrics`, `outcomes`."""
        with explained():
            from flows.training import evaluate_config, evaluate_stages

            if stages:
                evaluate_stages(config, store, say, on, labels)
                return
            if on is not None and len(on) > 1:
                raise typer.BadParameter(f"{len(on)} versions, but only --stages takes several", param_hint="--on")
            evaluate_config(config, store, say, on[0] if on else None, labels)

    @app.command()
    def seen(
        run: Annotated[Path, typer.Argument(help="Folder of a run, such as STORE/models/NAME.", show_default=False)],
        step: Annotated[int, typer.Option("--step", min=1, help="Which step, counted from 1 as in metrics.jsonl.")],
        output: Annotated[Path | None, typer.Option("-o", "--output", help="Write a .parquet or .csv file.")] = None,
        version: Annotated[
            list[str] | None, typer.Option("--version", help="Where the run's versions lie now, if they have moved.")
        ] = None,
    ) -> None:
        """Name the samples and texts that a training step saw, checked against the run's log."""
        with explained():
            from flows.training import seen_rows
            from pipelines.summary import check_result, write_result

            check_result(output)
            rows = seen_rows(run, step, version)
            if output is None:
                show(rows)
                return
            import pyarrow as pa

            write_result(pa.Table.from_pylist(rows), output)
            say(f"{len(rows):,} samples in {output}")
