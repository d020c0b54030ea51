"""The commands about policies: curve, select, diff, sweep. `register` puts them on the command line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.argument_order import after_store, before_store

Rows = list[dict[str, Any]]
StoreArgument = Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)]
OutputOption = Annotated[Path | None, typer.Option("-o", "--output", help="Write a .parquet or .csv file.")]


def register(
    app: typer.Typer,
    explained: Callable[[], AbstractContextManager[None]],
    show: Callable[[Rows], None],
    say: Callable[[str], None],
) -> None:
    """Add the commands to `app`; `explained` turns errors into messages, `show` prints rows, `say` a line."""

    @app.command()
    def curve(
        store: StoreArgument,
        value: Annotated[
            str,
            typer.Argument(help="A column of numbers such as clip_score, or a SQL expression.", callback=after_store),
        ],
        at: Annotated[str | None, typer.Option("--at", help="Thresholds, such as 0.2,0.25,0.3.")] = None,
        where: Annotated[str, typer.Option("--where", help="SQL predicate: the texts that count.")] = "status = 'ok'",
        below: Annotated[bool, typer.Option("--below", help="Keep at most the threshold, not at least.")] = False,
        least: Annotated[int, typer.Option("--least", help="Texts that a language, host or source must have.")] = 1,
        output: Annotated[
            Path | None, typer.Option("-o", "--output", help="Write a .html page, or a .csv or .parquet file.")
        ] = None,
    ) -> None:
        """Keep rate against the threshold of a score: overall, by language, by host, by source of the text."""
        with explained():
            from pipelines.curve import CurveOptions, shown, write_page
            from pipelines.curve import curve as measure
            from pipelines.reselect import stored_rows
            from pipelines.sources import SourceError
            from pipelines.store import Store
            from pipelines.summary import check_result, write_result

            check_result(output, ".html")
            try:
                thresholds = tuple(float(each) for each in at.split(",")) if at else ()
            except ValueError as error:
                raise SourceError(f"--at: {error}: give numbers such as 0.2,0.25,0.3") from error
            options = CurveOptions(value, thresholds, where, below, least)
            table = measure(stored_rows(Store.open(store)), options)
            show(shown(table))
            if output is not None:
                if output.suffix == ".html":
                    write_page(table, value, output)
                else:
                    write_result(table, output)
                say(f"{table.num_rows:,} rows in {output}")

    @app.command("select")
    def select_again(
        recipe: Annotated[
            Path, typer.Argument(help="The recipe, for seed and packing.", show_default=False, callback=before_store)
        ],
        store: Annotated[Path, typer.Option("--store", help="Folder of the store.")],
        policy: Annotated[Path, typer.Option("--policy", help="YAML with a `policy`, or another recipe.")],
        name: Annotated[str, typer.Option("--name", help="What decisions and version are called.")],
        address: Annotated[str, typer.Option("--address", help="serial | local | auto | ray://HOST:PORT")] = "serial",
    ) -> None:
        """Decide anew by another policy on the stored signals, and pack the version; the old ones stay."""
        with explained():
            from flows.main_job import closing
            from pipelines.reselect import reselect

            reselect(recipe, store, policy, name, address, say, closing)

    @app.command()
    def diff(
        store: StoreArgument,
        a: Annotated[str, typer.Argument(help="A version, or a selection by name or label.", callback=after_store)],
        b: Annotated[
            str, typer.Argument(help="Another; `latest` is the present one.", callback=after_store)
        ] = "latest",
        output: OutputOption = None,
    ) -> None:
        """Texts that came in and went out from A to B, each with its cause: rule, signal, data, balance, takedown."""
        with explained():
            from pipelines.diff import diff as compare
            from pipelines.diff import heading
            from pipelines.store import Store
            from pipelines.summary import check_result, write_result

            check_result(output)
            found = compare(Store.open(store), a, b)
            for side in ("a", "b"):
                say(heading(found, side))
            show(found.summary)
            if output is not None:
                write_result(found.rows, output)
                say(f"{found.rows.num_rows:,} rows in {output}")

    @app.command()
    def sweep(
        store: StoreArgument,
        policy: Annotated[
            Path, typer.Argument(help="YAML with a `policy`, or a recipe.", show_default=False, callback=after_store)
        ],
        settings: Annotated[
            list[str] | None, typer.Option("--set", help="RULE.FIELD=VALUE,VALUE,...; may be given several times.")
        ] = None,
        grid: Annotated[Path | None, typer.Option("--grid", help="YAML: set: {rule.field: \\[values]}.")] = None,
        output: OutputOption = None,
    ) -> None:
        """What each combination of thresholds would keep, in all and by language. Nothing is decided or packed."""
        with explained():
            from pipelines import sweep as sweeps
            from pipelines.policy_file import load_policy
            from pipelines.reselect import stored_rows
            from pipelines.select import search_files
            from pipelines.store import Store
            from pipelines.stored_searches import check_found
            from pipelines.summary import check_result, write_result

            check_result(output)
            found = Store.open(store)
            rows = stored_rows(found)
            values = sweeps.read_grid(settings or (), grid)
            chosen = sweeps.cells(load_policy(policy, found, rows.types), values)
            check_found([items for _, items in chosen], found)
            table = sweeps.sweep(rows, chosen, search_files(found, found.state()), say)
            show(sweeps.shown(table, list(values)))
            if output is not None:
                write_result(table, output)
                say(f"{table.num_rows:,} rows in {output}")
