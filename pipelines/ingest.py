"""Ingest: link tables become the pool's links and texts, cut into parts; a grown source makes new parts only.

A sample is one canonical URL with all its texts. New samples go into new parts, ordered by uid, so the pool does not
depend on the order of the link table's rows and the links of one host are spread. New texts of a known sample rewrite
that part's texts, not its links, so nothing is fetched again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.file_digest import file_digest
from curation.reasons import Reason
from curation.step import digest
from curation.urls import canonical_url, uid
from pipelines import img2dataset_folder, media_folder
from pipelines.pool_growth import KNOWN, folded, growing
from pipelines.pool_parts import VERSION, write_links, write_texts
from pipelines.recipe import Columns, Recipe, Source
from pipelines.sources import EmptyTable, SourceError, check_columns, find_files, read_links
from pipelines.store import PoolPart, Store

_HASH = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")


def pending_sources(recipe: Recipe, store: Store) -> tuple[list[Path], list[dict[str, Any]]]:
    """The link tables that are not in the pool yet, and the source entries of all that the recipe names.

    A file is known by its content and the mapping of its columns, not by its name or date. Where none is named, a pool
    that is not empty stays as it is. Raises SourceError where the head of one says that it cannot be taken in: before
    the first is read, however many there are.
    """
    if not recipe.source.links and store.pool():
        return [], []
    source, names = recipe.source, [] if recipe.segment is None else recipe.segment.subtitles
    is_image = source.modality == "image"
    mapping = digest("columns", VERSION, source.columns, *(() if is_image else (source.modality, sorted(names))))
    known = {source["key"] for source in store.pool_sources()}
    files, entries = [], []
    for path in _files(source):
        is_medium = media_folder.is_medium(path)
        entry = {
            "name": path.name,
            "key": digest(media_folder.digest_of(path) if is_medium else file_digest(path), mapping),
        }
        entries.append(entry)
        if entry["key"] not in known:
            if not is_medium:
                check_columns(path, source.columns)
            files.append(path)
            known.add(entry["key"])
    return files, entries


def _files(source: Source) -> list[Path]:
    """The link tables that are named; of an output folder of img2dataset the tables of its shards, of a folder of
    videos and sounds these."""
    found: list[Path] = []
    for path in source.links:
        media = media_folder.media_files(path) if source.modality != "image" else []
        if not media and img2dataset_folder.is_output(path):
            media = img2dataset_folder.shards(path)
        found += media or _tables(path)
    return found or find_files([])


def _tables(path: Path) -> list[Path]:
    """The link tables that `path` names. Raises SourceError where a folder in it is an output of img2dataset: its
    pictures would be fetched again."""
    tables = find_files([path])
    inside = sorted({each.parent for each in tables if path.is_dir()})
    output = next((folder for folder in inside if img2dataset_folder.is_output(folder)), None)
    if output is not None:
        raise SourceError(
            f"{path}: img2dataset wrote the folder {output} in it: name each such folder, --links {output}"
        )
    return tables


def _incoming(path: Path, recipe: Recipe) -> Iterator[pa.Table]:
    """What one source file says, with uids (`_identified`)."""
    columns, links = recipe.source.columns, recipe.source.links
    if not media_folder.is_medium(path):
        yield from (_identified(batch, columns) for batch in _batches(path, columns, links))
        return
    timed = [] if recipe.segment is None else recipe.segment.subtitles
    captions = [name for name in columns.text if name not in timed]
    first = captions[0] if captions else None, timed[0] if timed else None
    texts = [name for name in columns.text if name in first]
    named = columns.changed(url="url", text=texts, language="language", hash="sha256", picture=None)
    for batch in media_folder.batches(path, links, *first, columns.extra):
        yield _identified(batch, named)


def _batches(path: Path, columns: Columns, links: Sequence[Path]) -> Iterator[pa.Table]:
    """Of a link table, with the column `held_in` where the file comes from a folder of img2dataset's."""
    is_held = path.parent in links and img2dataset_folder.is_output(path.parent)
    held, at = img2dataset_folder.places(path) if is_held else None, 0
    for batch in read_links(path, columns, takes_lists=True):
        column = pa.nulls(batch.num_rows, pa.string()) if held is None else held.slice(at, batch.num_rows)
        at += batch.num_rows
        yield batch.append_column("held_in", column)


def ingest(recipe: Recipe, store: Store) -> dict[str, Any]:
    """Take the recipe's link tables into the pool; returns counts. Nothing is read that has been taken in before.

    Tables of a folder without a row are counted (`tables_empty`): jobs of many workers write some. Raises EmptyTable
    where there is no other, or where one is named.
    """
    files, entries = pending_sources(recipe, store)
    parts = {each.index: each for each in store.pool()}
    if not files:
        return {"links_read": 0, "parts_made": 0, "parts": len(parts)}
    texts_new = samples_new = made = 0
    empty: list[EmptyTable] = []
    with growing(store) as growth:
        for path in files:
            try:
                for batch in _incoming(path, recipe):
                    growth.take(batch)
            except EmptyTable as error:
                if path in recipe.source.links:
                    raise
                empty.append(error)
        if not growth.rows:
            if empty and len(empty) == len({entry["key"] for entry in entries}):
                raise empty[0]
            return {"links_read": 0, "tables_empty": len(empty), "parts_made": 0, "parts": len(parts)}
        for index, rows in growth.parts(recipe.samples_per_part):
            before, told = parts.get(index), folded(rows, recipe.source.columns.extra)
            fresh, again = told.filter(pc.invert(told.column(KNOWN))), told.filter(told.column(KNOWN))
            links = before.links if before else write_links(store, index, fresh, recipe.source.modality)
            texts = write_texts(store, index, fresh, recipe.source.columns.extra, before, again)
            parts[index] = PoolPart(index, links, texts)
            made += parts[index] != before
            texts_new += fresh.num_rows
            samples_new += 0 if before else len(pc.unique(fresh.column("sample_uid")))
        growth.reconcile(list(parts.values()))
    known = {source["key"]: source for source in store.pool_sources()}
    known |= {entry["key"]: entry for entry in entries}
    store.grow_pool(
        [parts[index] for index in sorted(parts)], sorted(known.values(), key=lambda each: str(each["key"]))
    )
    return {
        "links_read": growth.rows,
        **({"tables_empty": len(empty)} if empty else {}),
        "texts_new": texts_new,
        "samples_new": samples_new,
        "parts_made": made,
        "parts": len(parts),
    }


def _identified(batch: pa.Table, columns: Columns) -> pa.Table:
    """One row for each (link, text) of `batch` with uids; a link whose text columns are all null has one null text."""
    texts = [batch.column(name).to_pylist() for name in columns.text]
    canonical: list[str | None] = []
    reasons: list[str | None] = []
    samples: list[str] = []
    out: dict[str, list[Any]] = {name: [] for name in ("source_row", "text", "text_source", "text_uid")}
    urls, held = (batch.column(name).to_pylist() for name in (columns.url, "held_in"))
    clean: str | None
    reason: str | None
    for row, (url, folder) in enumerate(zip(urls, held, strict=True)):
        if url is None or not url.strip():
            clean, reason = None, Reason.IN_MISSING_URL.value
            # without a URL the texts are all there is to tell one such link from another
            samples.append(uid("sample without url", *(_spelled(column[row]) for column in texts)))
        else:
            is_file = folder is not None and url.startswith(media_folder.FILE)
            clean, reason = (url, None) if is_file else canonical_url(url)
            samples.append(uid("sample", clean or url))
        canonical.append(clean)
        reasons.append(reason)
        for name, text in _texts_of(row, columns.text, texts):
            out["source_row"].append(row)
            out["text"].append(text)
            out["text_source"].append(name)
            out["text_uid"].append(uid("text", samples[row], text or ""))
    take = pa.array(out["source_row"], pa.int64())
    given = {
        "url": batch.column(columns.url),
        "url_canonical": pa.array(canonical, pa.string()),
        "url_reason": pa.array(reasons, pa.string()),
        "sample_uid": pa.array(samples, pa.string()),
        "language": _named(_optional(batch, columns.language)),
        "expected_hash": _hashes(batch, columns.hash),
        "held_in": batch.column("held_in"),
        "picture_link": _optional(batch, columns.picture),
        **{name: batch.column(name) for name in columns.extra},
    }
    made = {name: pa.array(out[name], pa.string()) for name in ("text", "text_source", "text_uid")}
    return pa.table({**{name: pc.take(column, take) for name, column in given.items()}, **made})


def _texts_of(row: int, names: list[str], columns: list[list[Any]]) -> list[tuple[str, str | None]]:
    """(column, text) of a link; a column may hold one text or a list of them."""
    found: list[tuple[str, str | None]] = []
    for name, column in zip(names, columns, strict=True):
        value = column[row]
        found += [(name, text) for text in (value if isinstance(value, list) else [value]) if text is not None]
    return found or [(names[0] if names else "", None)]


def _spelled(value: str | list[str | None] | None) -> str:
    return json.dumps(value) if isinstance(value, list) else value or ""


def _optional(batch: pa.Table, name: str | None) -> pa.Array | pa.ChunkedArray:
    return pa.nulls(batch.num_rows, pa.string()) if name is None else batch.column(name)


def _named(languages: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Null where there is nothing but white space, which names no language."""
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(languages), ""), pa.scalar(None, pa.string()), languages)


def _hashes(batch: pa.Table, name: str | None) -> pa.Array:
    """The promised digests in lower case, null where empty. Raises SourceError where one is no MD5 and no SHA-256."""
    values = [(value or "").strip().lower() or None for value in _optional(batch, name).to_pylist()]
    wrong = next((value for value in values if value is not None and not _HASH.fullmatch(value)), None)
    if wrong is not None:
        raise SourceError(
            f"column {name!r}: {wrong[:80]!r} is no digest: it wants a SHA-256 (64 hex digits) or an MD5 (32)"
        )
    return pa.array(values, pa.string())
