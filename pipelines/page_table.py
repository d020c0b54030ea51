"""A table of pages -> a table of media, by `pipelines.page_links`: one row for each medium and each of its subtitles,
or one row that says why a page has none."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.table import replacing
from pipelines.page_links import Found, PageOptions, media_of_pages
from pipelines.recipe import Columns
from pipelines.sources import SourceError, find_files, read_links

MEDIA_OF_PAGES = pa.schema(
    [(name, pa.string()) for name in ("url", "page", "title", "description", "language", "subtitles", "reason",
                                      "detail")]
)  # fmt: skip


def resolve(table: Path, column: str, output: Path, options: PageOptions) -> dict[str, int]:
    """Write the media of all pages that a link table names; returns counts.

    Raises SourceError where the table cannot be read, the output is no .parquet, or yt-dlp is not installed.
    """
    if output.suffix != ".parquet":
        raise SourceError(f"{output}: the ending must be .parquet")
    find_files([table])  # names what is missing, or of an unknown kind
    pages: dict[str, None] = {}
    for batch in read_links(table, Columns(url=column, text=[])):
        pages |= dict.fromkeys(page for page in batch.column(column).to_pylist() if page)
    try:
        found = list(media_of_pages(list(pages), options))
    except ImportError as error:
        raise SourceError("pages are read by yt-dlp, which is not installed: pip install 'tamis[pages]'") from error
    rows = [row for each in found for row in _rows(each)]
    with replacing(output.absolute()) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=MEDIA_OF_PAGES), temporary)
    failed = sum(each.url is None for each in found)
    return {"pages": len(pages), "media": len(found) - failed, "failed": failed}


def _rows(found: Found) -> list[dict[str, str | None]]:
    row = {name: getattr(found, name) for name in MEDIA_OF_PAGES.names if name != "subtitles"} | {"subtitles": None}
    timed = [row | {"title": None, "description": None, "language": language, "subtitles": text}
             for language, text in found.subtitles]  # fmt: skip
    return [row, *timed]
