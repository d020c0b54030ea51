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

from curation.reasons import Reason
from curation.schema import LINKS, TEXTS
from curation.step import digest
from curation.table import Part, read_part, write_part
from curation.urls import canonical_url, uid
from pipelines import database, img2dataset_folder, media_folder
from pipelines.recipe import Columns, Recipe, Source
from pipelines.sources import SourceError, file_digest, find_files, read_links
from pipelines.stage import AccountingError
from pipelines.store import PoolPart, Store

_HASH = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")
VERSION = 2
"""Of the rules in this file that decide uids, texts and parts."""


def pending_sources(recipe: Recipe, store: Store) -> tuple[list[Path], list[dict[str, Any]]]:
    """The link tables that are not in the pool yet, and the source entries of all that the recipe names.

    A file is known by its content and the mapping of its columns, not by its name or date.
    """
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
            files.append(path)
            known.add(entry["key"])
    return files, entries


def _files(source: Source) -> list[Path]:
    """The link tables that are named; of an output folder of img2dataset the tables of its shards, of a folder of
    videos and sounds these."""
    found: list[Path] = []
    for path in source.links:
        media = media_folder.media_files(path) if source.modality != "image" else []
        is_output = img2dataset_folder.is_output(path)
        found += media or (img2dataset_folder.shards(path) if is_output else find_files([path]))
    return found or find_files([])


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
    for batch in read_links(path, columns):
        column = pa.nulls(batch.num_rows, pa.string()) if held is None else held.slice(at, batch.num_rows)
        at += batch.num_rows
        yield batch.append_column("held_in", column)


def ingest(recipe: Recipe, store: Store) -> dict[str, Any]:
    """Take the recipe's link tables into the pool; returns counts. Nothing is read that has been taken in before."""
    files, entries = pending_sources(recipe, store)
    pool = store.pool()
    if not files:
        return {"links_read": 0, "parts_made": 0, "parts": len(pool)}
    columns = recipe.source.columns
    incoming = pa.concat_tables([batch for path in files for batch in _incoming(path, recipe)])
    incoming = incoming.append_column("row", pa.array(range(incoming.num_rows), pa.int64()))
    known_texts = _concat([read_part(each.texts.path, ["text_uid", "sample_uid"]) for each in pool], TEXTS)
    con = database.connect()
    con.register("incoming", incoming)
    con.register("known_texts", known_texts)
    told = database.arrow(con, database.query("ingest/new_rows"))
    con.close()
    fresh = told.filter(pc.invert(told.column("known"))).drop_columns(["known"])
    again = {row["text_uid"]: row for row in told.filter(told.column("known")).to_pylist()}
    home = {
        sample: each.index
        for each in pool
        for sample in read_part(each.links.path, ["sample_uid"]).column(0).to_pylist()
    }
    parts = {each.index: each for each in pool}
    made = 0
    by_part = dict(_by_part(fresh, home, len(pool), recipe.samples_per_part))
    for index in sorted(by_part.keys() | {home[row["sample_uid"]] for row in again.values()}):
        before, rows = parts.get(index), by_part.get(index, fresh.slice(0, 0))
        links = before.links if before else _write_links(store, index, rows, recipe.source.modality)
        texts = _write_texts(store, index, rows, columns, before, again)
        made += before is None or texts != before.texts
        parts[index] = PoolPart(index, links, texts)
    _reconcile(incoming, list(parts.values()))
    known = {source["key"]: source for source in store.pool_sources()}
    known |= {entry["key"]: entry for entry in entries}
    store.grow_pool(
        [parts[index] for index in sorted(parts)], sorted(known.values(), key=lambda each: str(each["key"]))
    )
    return {
        "links_read": incoming.num_rows,
        "texts_new": fresh.num_rows,
        "samples_new": len(set(fresh.column("sample_uid").to_pylist()) - home.keys()),
        "parts_made": made,
        "parts": len(parts),
    }


def _reconcile(incoming: pa.Table, parts: list[PoolPart]) -> None:
    """What was written, read back: every text that came in stands in the pool, and none twice.

    Raises AccountingError; the pool is then as it was before.
    """
    pool = [uid for each in parts for uid in read_part(each.texts.path, ["text_uid"]).column(0).to_pylist()]
    there = set(pool)
    lost = set(incoming.column("text_uid").to_pylist()) - there
    if lost or len(there) != len(pool):
        raise AccountingError(
            f"ingest: {len(lost)} texts of the links are not in the pool, {len(pool) - len(there)} are there twice"
        )


def _identified(batch: pa.Table, columns: Columns) -> pa.Table:
    """One row for each (link, text) of `batch` with uids; a link whose text columns are all null has one null text."""
    urls = batch.column(columns.url).to_pylist()
    canonical: list[str | None] = []
    reasons: list[str | None] = []
    samples: list[str] = []
    texts = [batch.column(name).to_pylist() for name in columns.text]
    held = batch.column("held_in").to_pylist()
    for row, url in enumerate(urls):
        if url is not None and held[row] is not None and url.startswith(media_folder.FILE):
            canonical.append(url)
            reasons.append(None)
            samples.append(uid("sample", url))
        elif url is None or not url.strip():
            canonical.append(None)
            reasons.append(Reason.IN_MISSING_URL.value)
            # without a URL the texts are all there is to tell one such link from another
            samples.append(uid("sample without url", *(column[row] or "" for column in texts)))
        else:
            clean, reason = canonical_url(url)
            canonical.append(clean)
            reasons.append(reason)
            samples.append(uid("sample", clean or url))
    out: dict[str, list[Any]] = {name: [] for name in ("source_row", "text", "text_source", "text_uid")}
    for row in range(len(urls)):
        found = [
            (name, column[row]) for name, column in zip(columns.text, texts, strict=True) if column[row] is not None
        ]
        for name, text in found or [(columns.text[0] if columns.text else "", None)]:
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
        "language": _optional(batch, columns.language),
        "expected_hash": _hashes(batch, columns.hash),
        "held_in": batch.column("held_in"),
        "picture_link": _optional(batch, columns.picture),
        **{name: batch.column(name) for name in columns.extra},
    }
    made = {name: pa.array(out[name], pa.string()) for name in ("text", "text_source", "text_uid")}
    return pa.table({**{name: pc.take(column, take) for name, column in given.items()}, **made})


def _optional(batch: pa.Table, name: str | None) -> pa.Array | pa.ChunkedArray:
    return pa.nulls(batch.num_rows, pa.string()) if name is None else batch.column(name)


def _hashes(batch: pa.Table, name: str | None) -> pa.Array:
    """The promised digests in lower case, null where empty. Raises SourceError where one is no MD5 and no SHA-256."""
    values = [(value or "").strip().lower() or None for value in _optional(batch, name).to_pylist()]
    wrong = next((value for value in values if value is not None and not _HASH.fullmatch(value)), None)
    if wrong is not None:
        raise SourceError(
            f"column {name!r}: {wrong[:80]!r} is no digest: it wants a SHA-256 (64 hex digits) or an MD5 (32)"
        )
    return pa.array(values, pa.string())


def _concat(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _by_part(
    fresh: pa.Table, home: dict[str, int], next_index: int, samples_per_part: int
) -> Sequence[tuple[int, pa.Table]]:
    """New rows grouped by the part that they belong to: the sample's own, or new parts for new samples."""
    samples = fresh.column("sample_uid").to_pylist()
    unknown = sorted(set(samples) - home.keys())
    placed = home | {sample: next_index + position // samples_per_part for position, sample in enumerate(unknown)}
    indices = pa.array([placed[sample] for sample in samples], pa.int64())
    fresh = fresh.append_column("part", indices).sort_by(
        [("part", "ascending"), ("sample_uid", "ascending"), ("row", "ascending"), ("text_uid", "ascending")]
    )
    runs = pc.run_end_encode(fresh.column("part").combine_chunks()) if fresh.num_rows else None
    if runs is None:
        return []
    ends = runs.run_ends.to_pylist()
    starts = [0, *ends[:-1]]
    return [
        (int(index), fresh.slice(start, end - start))
        for index, start, end in zip(runs.values.to_pylist(), starts, ends, strict=True)
    ]


def _write_links(store: Store, index: int, rows: pa.Table, modality: str) -> Part:
    """One row for each sample: the spelling of the URL that was seen first, and the first digest that is promised; and
    behind it one for the picture that goes with it, if any."""
    samples = rows.column("sample_uid").to_pylist()
    promised: dict[str, str] = {}
    for sample, promise in zip(samples, rows.column("expected_hash").to_pylist(), strict=True):
        if promise is not None:
            promised.setdefault(sample, promise)
    held: dict[str, str] = {}
    for sample, place in zip(samples, rows.column("held_in").to_pylist(), strict=True):
        if place is not None and (sample not in held or "error" in json.loads(held[sample])):
            held[sample] = place
    first = [i for i, sample in enumerate(samples) if i == 0 or sample != samples[i - 1]]
    table = rows.take(pa.array(first, pa.int64()))
    count, samples = table.num_rows, table.column("sample_uid").to_pylist()
    table = pa.table(
        {
            "media_uid": pa.array([uid("media", sample, "primary") for sample in samples]),
            "sample_uid": table.column("sample_uid"),
            "role": pa.array(["primary"] * count),
            "modality": pa.array([modality] * count),
            **{name: table.column(name) for name in ("url", "url_canonical", "url_reason")},
            "expected_hash": pa.array([promised.get(sample) for sample in samples], pa.string()),
            "held_in": pa.array([held.get(sample) for sample in samples], pa.string()),
        },
        schema=LINKS,
    )
    table = _with_pictures(table, rows)
    key = digest("links", VERSION, table.to_pylist())
    return write_part(store.table("links"), index, key, table)


def _with_pictures(table: pa.Table, rows: pa.Table) -> pa.Table:
    """The links of samples, each followed by that of the first picture that is named for it."""
    pictures: dict[str, str] = {}
    for sample, link in zip(
        rows.column("sample_uid").to_pylist(), rows.column("picture_link").to_pylist(), strict=True
    ):
        if link is not None and link.strip():
            pictures.setdefault(sample, link)
    if not pictures:
        return table
    out: list[dict[str, Any]] = []
    for row in table.to_pylist():
        out.append(row)
        if row["sample_uid"] in pictures:
            link = pictures[row["sample_uid"]]
            clean, reason = canonical_url(link)
            picture = {"media_uid": uid("media", row["sample_uid"], "picture"), "sample_uid": row["sample_uid"]}
            picture |= {"role": "picture", "modality": "image", "url": link}
            out.append(dict.fromkeys(LINKS.names) | picture | {"url_canonical": clean, "url_reason": reason})
    return pa.Table.from_pylist(out, schema=LINKS)


def _write_texts(
    store: Store,
    index: int,
    rows: pa.Table,
    columns: Columns,
    before: PoolPart | None,
    again: dict[str, dict[str, Any]],
) -> Part:
    """The part's texts, those it had before included, with what is said `again` of those."""
    schema = pa.schema([*TEXTS, *(pa.field(name, pa.string()) for name in columns.extra)])
    table = pa.table({**{name: rows.column(name) for name in schema.names if name != "position"}, **_positions(rows)})
    table = table.select(schema.names).cast(schema)
    if before is not None:
        old = read_part(before.texts.path).replace_schema_metadata(None)
        merged = _said_again(old, again, columns.extra)
        if merged is None and rows.num_rows == 0:
            return before.texts
        old = old if merged is None else merged
        shift = pc.add(table.column("position"), pa.scalar(old.num_rows, pa.int32()))
        table = table.set_column(schema.get_field_index("position"), "position", shift)
        table = pa.concat_tables([old, table], promote_options="default")
        table = table.sort_by([("sample_uid", "ascending"), ("position", "ascending")])
    return write_part(store.table("texts"), index, digest("texts", VERSION, table.to_pylist()), table)


def _said_again(old: pa.Table, again: dict[str, dict[str, Any]], extra: list[str]) -> pa.Table | None:
    """`old` texts with the languages and extra values that new link tables claim for them; None where nothing is new.

    What was said first stays; a claim is only ever added, so that the pool is the same however its links came in.
    """
    found, is_new = [], False
    for row in old.to_pylist():
        new = again.get(row["text_uid"])
        merged = row
        if new is not None:
            filled = {name: new[name] for name in ("language_claimed", *extra) if row.get(name) is None}
            languages = sorted({*row["languages_claimed"], *new["languages_claimed"]})
            merged = {**row, **filled, "languages_claimed": languages}
            is_new = is_new or any(merged[name] != row.get(name) for name in merged)
        found.append(merged)
    schema = pa.schema([*old.schema, *(pa.field(name, pa.string()) for name in extra if name not in old.schema.names)])
    return pa.Table.from_pylist(found, schema=schema) if is_new else None


def _positions(rows: pa.Table) -> dict[str, pa.Array]:
    samples, positions = rows.column("sample_uid").to_pylist(), list[int]()
    for i, sample in enumerate(samples):
        positions.append(positions[-1] + 1 if i and sample == samples[i - 1] else 0)
    return {"position": pa.array(positions, pa.int32())}
