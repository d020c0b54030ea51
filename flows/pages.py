"""`tamis pages`: pages of videos and sounds become a link table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(pages)


def pages(
    table: Annotated[Path, typer.Argument(help="Link table of pages.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The link table of media to write (.parquet).")],
    column: Annotated[str, typer.Option(help="Column with the pages' URLs.")] = "url",
    allow_net: Annotated[list[str] | None, typer.Option(help="CIDR block that may be connected to.")] = None,
    max_height: Annotated[int, typer.Option(min=1, help="Lines of the best format that is taken.")] = 1080,
) -> None:
    """Find the media of pages with yt-dlp, whose requests all go through the guarded fetcher.

    Columns of the output: url, page, title, description, language, subtitles, reason, detail. A page without a medium
    has a row without `url` that says why.
    """
    from flows.explained import explained
    from pipelines.fetch_options import FetchOptions
    from pipelines.page_links import PageOptions
    from pipelines.page_table import resolve

    with explained():
        fetch = FetchOptions(max_bytes=10_000_000, allow_networks=tuple(allow_net or ()))
        counts = resolve(table, column, output, PageOptions(fetch=fetch, max_height_px=max_height))
        print(
            f"{counts['pages']:,} pages: {counts['media']:,} media in {output}, {counts['failed']:,} pages without",
            flush=True,
        )
