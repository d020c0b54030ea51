"""The pool's parts: links and texts of the same samples, and what a grown source adds to the texts of a part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.rows_digest import rows_digest
from curation.schema import LINKS, TEXTS
from curation.step import digest
from curation.table import Part, read_part, write_part
from curation.urls import canonical_url, uid
from pipelines.pool_growth import is_first
from pipelines.store import PoolPart, Store

VERSION = 3
"""Of the rules that decide uids, texts and parts."""


def write_links(store: Store, index: int, rows: pa.Table, modality: str) -> Part:
    """One row for each sample of `rows` (sorted by sample): the spelling of the URL that was seen first, and the first
    digest that is promised; and behind it one for the picture that goes with it, if any."""
    first = np.flatnonzero(is_first(rows.column("sample_uid").combine_chunks()))
    table = rows.take(first)
    samples = table.column("sample_uid").to_pylist()
    count = len(samples)
    media = {
        "media_uid": pa.array([uid("media", sample, "primary") for sample in samples], pa.string()),
        "sample_uid": table.column("sample_uid"),
        "role": pa.repeat("primary", count),
        "modality": pa.repeat(modality, count),
        **{name: table.column(name) for name in ("url", "url_canonical", "url_reason")},
        "expected_hash": _one_of_each(rows, first, "expected_hash"),
        "held_in": _one_of_each(rows, first, "held_in"),
    }
    made = _with_pictures(pa.table(media, schema=LINKS), _one_of_each(rows, first, "picture_link"))
    return write_part(store.table("links"), index, digest("links", VERSION, rows_digest(made)), made)


def _with_pictures(links: pa.Table, pictures: pa.Array) -> pa.Table:
    """The links of samples, each followed by that of its picture. pictures: as the link table has it, null for none."""
    if pictures.null_count == len(pictures):
        return links
    rows: list[dict[str, Any]] = []
    for link, picture in zip(links.to_pylist(), pictures.to_pylist(), strict=True):
        rows.append(link)
        if picture is not None and picture.strip():
            clean, reason = canonical_url(picture)
            sample = link["sample_uid"]
            own = {"media_uid": uid("media", sample, "picture"), "sample_uid": sample, "role": "picture"}
            own |= {"modality": "image", "url": picture, "url_canonical": clean, "url_reason": reason}
            rows.append(dict.fromkeys(LINKS.names) | own)
    return pa.Table.from_pylist(rows, schema=LINKS)


def _one_of_each(rows: pa.Table, first: np.ndarray, name: str) -> pa.Array:
    """The first value of each sample; of `held_in` rather one with bytes than one that only tells an error."""
    column = rows.column(name)
    found: list[str | None] = [None] * len(first)
    if column.null_count < len(column):
        sample_of = np.searchsorted(first, np.arange(len(column)), side="right") - 1
        for sample, value in zip(sample_of.tolist(), column.to_pylist(), strict=True):
            before = found[sample]
            if value is not None and (before is None or (name == "held_in" and "error" in json.loads(before))):
                found[sample] = value
    return pa.array(found, pa.string())


def write_texts(
    store: Store,
    index: int,
    rows: pa.Table,
    extra: Sequence[str],
    before: PoolPart | None,
    again: pa.Table,
) -> Part:
    """The part's texts: `rows` (sorted by sample) and those it had before, with what is said `again` of those."""
    schema = pa.schema([*TEXTS, *(pa.field(name, pa.string()) for name in extra)])
    table = rows.append_column("position", _positions(rows)).select(schema.names).cast(schema)
    if before is not None:
        old = read_part(before.texts.path).replace_schema_metadata(None)
        merged = _said_again(old, {row["text_uid"]: row for row in again.to_pylist()}, extra)
        if merged is None and rows.num_rows == 0:
            return before.texts
        old = old if merged is None else merged
        shift = pc.add(table.column("position"), pa.scalar(old.num_rows, pa.int32()))
        table = table.set_column(schema.get_field_index("position"), "position", shift)
        table = pa.concat_tables([old, table], promote_options="default")
        table = table.sort_by([("sample_uid", "ascending"), ("position", "ascending")])
    return write_part(store.table("texts"), index, digest("texts", VERSION, rows_digest(table)), table)


def _said_again(old: pa.Table, again: dict[str, dict[str, Any]], extra: Sequence[str]) -> pa.Table | None:
    """`old` texts with the languages and extra values that new link tables claim for them; None where nothing is new.

    What was said first stays; a claim is only ever added, so that the pool is the same however its links came in.
    """
    if not again:
        return None
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


def _positions(rows: pa.Table) -> pa.Array:
    """0, 1, 2 ... within each sample."""
    at = np.arange(rows.num_rows, dtype=np.int32)
    return pa.array(
        at - np.maximum.accumulate(np.where(is_first(rows.column("sample_uid").combine_chunks()), at, 0)), pa.int32()
    )
