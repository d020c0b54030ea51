"""The command `tamis takedown`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from flows.argument_order import after_store

MOST_NAMED = 20
"""Entries without effect that are named: a slip of the pen would else look like a picture that is gone."""


def register(
    app: typer.Typer, explained: Callable[[], AbstractContextManager[None]], say: Callable[[str], None]
) -> None:
    """Add the command to `app`."""

    @app.command()
    def takedown(
        store: Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)],
        what: Annotated[
            list[str] | None,
            typer.Argument(
                help="URLs (all that begin so with a * at the end), domains, SHA-256 of bytes.", callback=after_store
            ),
        ] = None,
        listed: Annotated[Path | None, typer.Option("--list", help="File with one of these a line.")] = None,
        copies: Annotated[
            bool, typer.Option("--copies", help="Also what has the same bytes or is a near-duplicate.")
        ] = False,
    ) -> None:
        """Take pictures, videos or sounds out of tables, versions, report and caches, for good."""
        with explained():
            from pipelines.sources import SourceError
            from pipelines.store import Store
            from pipelines.takedown import copies_of, list_copies, take_down
            from pipelines.takedowns import parsed

            found = Store.open(store)
            words = [*(what or []), *(_lines(listed) if listed is not None else [])]
            try:
                entries = [parsed(word) for word in words]
            except ValueError as error:
                raise SourceError(f"{error}: give URLs, domains or SHA-256 digests (64 hex digits)") from error
            links = {link for link, _ in entries if link is not None}
            hashes = {digest for _, digest in entries if digest is not None}
            meant, others = copies_of(found, links, hashes)
            if copies:
                hashes = hashes.union(meant.values(), others.values())
            done = take_down(found, links, hashes)
            say(f"{len(done.media):,} media taken down; {len(done.parts):,} parts written anew or deleted")
            met = set(done.media.values())
            idle = [word for word, entry in zip(words, entries, strict=True) if met.isdisjoint(entry)]
            for word in idle[:MOST_NAMED]:
                say(f"  {word}: found nothing to take down; what comes later is refused")
            if len(idle) > MOST_NAMED:
                say(f"  and {len(idle) - MOST_NAMED:,} others found nothing")
            for old, new in sorted(done.versions.items()):
                say(f"version {old}: " + ("nothing is left, removed" if new is None else f"sealed anew as {new}"))
            for model in done.models:
                say(f"model {model} has seen them: delete {store / 'models' / model}, or train again")
            if others and not copies:
                again = shlex.join(
                    ["tamis", "takedown", str(store), "--list", str(list_copies(found, others.values()))]
                )
                say(f"{len(others):,} with the same bytes or near-duplicates stay: to take them out, too: {again}")
            if done.media:
                say("run the recipe again to score and decide what is left")


def _lines(path: Path) -> list[str]:
    from pipelines.sources import SourceError

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"--list {path}: cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
