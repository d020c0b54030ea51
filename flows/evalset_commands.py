"""The commands `tamis evalset`: evaluation sets that no version may hold."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.argument_order import after_store

StoreArgument = Annotated[
    Path, typer.Argument(help="Folder of the store; made if it is not there.", show_default=False)
]


def register(
    app: typer.Typer,
    explained: Callable[[], AbstractContextManager[None]],
    show: Callable[[list[dict[str, Any]]], None],
    say: Callable[[str], None],
) -> None:
    """Add the commands to the command line."""
    evalset = typer.Typer(
        help="Evaluation sets: registered once in a store; rules `decontaminate` keep versions free of them.",
        no_args_is_help=True,
    )
    app.add_typer(evalset, name="evalset")

    @evalset.command()
    def add(
        store: StoreArgument,
        name: Annotated[
            str, typer.Argument(help="Name of the set, such as imagenet_val.", show_default=False, callback=after_store)
        ],
        images: Annotated[Path | None, typer.Option("--images", help="Folder of pictures.")] = None,
        texts: Annotated[
            list[Path] | None, typer.Option("--texts", help="File of texts: .txt (one a line) or a table.")
        ] = None,
        text_column: Annotated[str, typer.Option("--text-column", help="Column of a table of texts.")] = "text",
        links: Annotated[
            list[Path] | None, typer.Option("--links", help="Link table; its pictures are fetched.")
        ] = None,
        columns: Annotated[
            str | None,
            typer.Option("--columns", help="Which columns of the links hold what, such as url=URL,text=TEXT."),
        ] = None,
        recipe: Annotated[
            Path | None, typer.Option("--recipe", help="Recipe whose models and download limits are used.")
        ] = None,
        allow_net: Annotated[list[str] | None, typer.Option("--allow-net", help="As for `tamis run`.")] = None,
        replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of a set of that name.")] = False,
    ) -> None:
        """Register pictures and texts as an evaluation set: what tells them is kept, not the pictures."""
        with explained():
            from flows.main_job import Options, load, with_columns, with_networks
            from pipelines.evaluation_sets import Items, add_set, check_name
            from pipelines.recipe import Columns, Recipe
            from pipelines.store import Store

            check_name(name)
            nets = tuple(allow_net or ())
            if recipe is not None:
                wanted = load(Options(recipe, store, allow_net=nets))
            else:
                wanted = with_networks(Recipe(name="evaluation-set", policy=[]), nets)
            given = Items(
                images, tuple(texts or ()), text_column, tuple(links or ()),
                with_columns(Columns(), columns) if columns else Columns(),
            )  # fmt: skip
            opened = Store.create(store)
            with opened.locked():
                made = add_set(opened, name, given, wanted, say, replace)
            manifest = made.manifest
            counts = f"{manifest['num_pictures']:,} pictures, {manifest['num_texts']:,} texts"
            say(f"evaluation set {name}: {counts}, digest {made.digest[:12]}")
            if manifest["num_failed"]:
                reasons = ", ".join(f"{count:,} {reason}" for reason, count in manifest["failed"].items())
                say(f"  could not be read, so nothing is checked against them: {reasons}")

    @evalset.command("list")
    def show_sets(store: StoreArgument) -> None:
        """The evaluation sets of a store."""
        with explained():
            from pipelines.evaluation_sets import evaluation_sets
            from pipelines.store import Store

            show(
                [
                    {"name": one.name, "pictures": one.manifest["num_pictures"], "texts": one.manifest["num_texts"],
                     "failed": one.manifest["num_failed"], "signals": ", ".join(sorted(one.manifest["signals"])),
                     "digest": one.digest[:12]}
                    for one in evaluation_sets(Store.open(store))
                ]
            )  # fmt: skip
