"""The command line `tamis` (also `python -m flows.cli`).

Exit status: 0 done; 2 a mistake in what was given (recipe, source, store, query); 3 the accounts of a run do not close;
4 a part failed, running again continues; 5 an outage: (nearly) no link was reached, the next run asks again;
129 the terminal went away; 130 ended by Ctrl-C; 141 nobody read what was written; 143 ended by SIGTERM.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows import (
    ablation_commands,
    evalset_commands,
    export_commands,
    metadata_commands,
    noise_commands,
    pages,
    policy_commands,
    takedown_commands,
    training_commands,
)
from flows.argument_order import TakesSql, after_store, before_store
from flows.explained import err, explained
from flows.shown import out, rows_of, show

app = typer.Typer(
    help="Sieve links into pre-training corpora, and corpora into models; every row keeps every signal and decision. "
    "What follows a file takes it first (run RECIPE --store STORE); what asks a store takes the store (status STORE).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(metadata_commands.app, name="metadata")
app.add_typer(export_commands.app, name="export")
RecipeArgument = Annotated[Path, typer.Argument(help="The recipe (YAML).", show_default=False, callback=before_store)]
StoreArgument = Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)]
StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the store; made if it is not there.")]
LinksOption = Annotated[
    list[Path] | None,
    typer.Option("--links", help="Link tables instead of the recipe's; files or folders, may be given several times."),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option("--columns", help="Which columns hold what, such as url=URL,text=TEXT,language=LANG,extra=split."),
]
NetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-net", help="Network that may be fetched from although it is not public, such as 127.0.0.0/8."
    ),
]
AddressOption = Annotated[
    str,
    typer.Option("--address", help="serial | local | auto | ray://HOST:PORT, or http://HOST:8265 to submit a Ray job."),
]


def _say(line: str) -> None:
    print(line, flush=True)


@app.command()
def run(
    recipe: RecipeArgument,
    store: StoreOption,
    links: LinksOption = None,
    columns: ColumnsOption = None,
    allow_net: NetOption = None,
    address: AddressOption = "local",
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Try those links again, alone, whose failure may have passed (5xx, DNS ...)."
        ),
    ] = False,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh", help="Ask for every picture that is there again (If-None-Match); other bytes replace it."
        ),
    ] = False,
    prefect: Annotated[
        bool, typer.Option("--prefect", help="Run as the Prefect flow `curate` even without a server.")
    ] = False,
) -> None:
    """Run a recipe: ingest, download, score, dedupe, select, pack, and its training, reusing all that is there."""
    with explained():
        from flows.main_job import Options, load, perform
        from flows.server import prefect_is_configured

        nets = tuple(allow_net or ())
        options = Options(recipe, store, tuple(links or ()), columns, nets, address, retry_failed, refresh)
        load(options)
        if address.startswith(("http://", "https://")):
            from flows.jobs import submit

            raise typer.Exit(submit(options, _say))
        if prefect or prefect_is_configured():
            from flows.curate import run_flow

            run_flow(options)
        else:
            perform(options, _say)


@app.command()
def plan(
    recipe: RecipeArgument,
    store: StoreOption,
    links: LinksOption = None,
    columns: ColumnsOption = None,
    allow_net: NetOption = None,
) -> None:
    """Say what `run` would do and what it would reuse. Nothing runs."""
    with explained():
        from flows.main_job import Options, load
        from pipelines.plan import plan as make_plan
        from pipelines.stage import Run
        from pipelines.store import Store
        from pipelines.workers import SerialWorkers

        options = Options(recipe, store, tuple(links or ()), columns, tuple(allow_net or ()))
        found = Store.planned(store)
        lines = make_plan(Run(load(options), found, SerialWorkers(), found.state()))
        show([{"step": line.step, "to run": line.to_run, "reused": line.to_reuse} for line in lines])


@app.command()
def status(store: StoreArgument) -> None:
    """What the store holds: pool, funnel of the last policy, versions, models, runs."""
    with explained():
        from pipelines.store import Store
        from pipelines.summary import status_tables

        for title, rows in status_tables(Store.open(store)):
            out.print(f"\n[bold]{title}[/bold]")
            show(rows)


@app.command()
def why(
    store: StoreArgument,
    what: Annotated[str, typer.Argument(help="uid of a sample, text or medium, or a URL.", callback=after_store)],
) -> None:
    """One sample's whole story: link, fetch, signals, every rule with the value it saw, duplicates, draw, versions."""
    with explained():
        from pipelines.store import Store
        from pipelines.why import story

        out.print(story(Store.open(store), what), markup=False)


@app.command(cls=TakesSql)
def sql(
    store: StoreArgument,
    query: Annotated[
        str | None,
        typer.Argument(help="SQL, or the name of a stored query such as report/funnel.", callback=after_store),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write a .parquet or .csv file.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the stored queries and the views.")] = False,
    selection: Annotated[
        str | None,
        typer.Option("--selection", help="Whose decisions the views show: a name, label or version; else the last."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.001, help="End the query after so many seconds.")
    ] = None,
) -> None:
    """Ask the store in SQL (DuckDB, read only): media, texts, each signal, decisions, ledger, versions, runs."""
    with explained():
        from pipelines.store import Store
        from pipelines.summary import ask, check_result, listing

        check_result(output)
        found = Store.open(store)
        if listed or query is None:
            show(listing(found))
            return
        table = ask(found, query, selection, timeout)
        if output is None:
            show(rows_of(table.slice(0, 1000)))
            if table.num_rows > 1000:
                err.print(f"... the first 1,000 of {table.num_rows:,} rows; write all with -o FILE.parquet")
        else:
            from pipelines.summary import write_result

            write_result(table, output)
            _say(f"{table.num_rows:,} rows in {output}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A training config (YAML).", callback=before_store)],
    store: StoreOption,
    address: AddressOption = "local",
) -> None:
    """Train a model on a dataset version of the store."""
    with explained():
        from flows.training import train_config

        _say(f"model: {train_config(config, store, address, _say)}")


classifier = typer.Typer(help="Text classifiers: trained on two selections of a store's texts.", no_args_is_help=True)
app.add_typer(classifier, name="classifier")


@classifier.command("train")
def train_text_classifier(
    store: StoreArgument,
    positive: Annotated[str, typer.Option("--positive", help="Predicate over `candidates`, or a SELECT of texts.")],
    negative: Annotated[str, typer.Option("--negative", help="The other kind, in the same way.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model; FILE.json beside it says how good it is.")],
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1)] = 0,
) -> None:
    """Train a fastText classifier, for the signal curation.signals.text_quality.TextQuality."""
    with explained():
        from curation.text_classifier import ClassifierSettings
        from pipelines.classifier import train_on_store
        from pipelines.store import Store

        settings = ClassifierSettings(epochs=epochs, seed=seed)
        card = train_on_store(Store.open(store), positive, negative, output, settings)
        low, high = card["held_out_auc_interval_95"]
        _say(f"{output}: held-out accuracy {card['held_out_accuracy']}, AUC {card['held_out_auc']} ({low} to {high})")
        _say(f"texts: {card['texts']}, in both selections and left out: {card['texts_in_both']:,}")


@app.command()
def report(store: StoreArgument, output: Annotated[Path | None, typer.Option("-o", "--output")] = None) -> None:
    """Write an HTML report: funnel, reasons, languages, duplicates, kept and rejected pictures, training."""
    with explained():
        from pipelines.report import write_report
        from pipelines.store import Store

        _say(str(write_report(Store.open(store), output)))


@app.command()
def verify(store: StoreArgument) -> None:
    """Check every part, shard and manifest against its checksums, and run all audits."""
    with explained():
        from pipelines.store import Store
        from pipelines.verify import verify_store

        problems = verify_store(Store.open(store), _say)
        for problem in problems:
            err.print(problem, style="red", markup=False)
        if problems:
            raise typer.Exit(3)


evalset_commands.register(app, explained, show, _say)
pages.register(app)
policy_commands.register(app, explained, show, _say)
takedown_commands.register(app, explained, _say)
noise_commands.register(app, explained, _say)
ablation_commands.register(app, explained, show, _say)
training_commands.register(app, explained, show, _say)


def main() -> None:
    """Entry point of the `tamis` command."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed by whoever started this: a file that is opened later must not take its place
            os.open(os.devnull, os.O_RDWR)  # as the lowest number that is free
            os.set_inheritable(number, True)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        else:
            stream.reconfigure(errors="backslashreplace")  # of a terminal that cannot show a caption's letters
    app()


if __name__ == "__main__":
    main()
