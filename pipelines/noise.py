"""Noise: versions of a version in which a planned share of the captions belongs to other samples.

The plan puts the captions in a keyed order; a share s of n captions replaces the first floor(s n) of it, so the noise
of a smaller share is part of that of a larger one, and each caption is replaced by the same one in all of them. What is
not a caption (pictures, samples, shards, their order) is as in the version. Source: after NMTune, arXiv 2309.17002 (the
same data with 0 to 30% of wrong captions).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.step import digest
from curation.table import read_groups, replace_text, write_part
from curation.urls import uid
from pipelines import database
from pipelines.pack import NAME_DIGITS
from pipelines.stage import Report
from pipelines.store import Store, StoreError
from pipelines.version_shards import link, shard_entry

VERSION = 1
"""Of the rules in this file and in sql/noise/."""
PLAN = "noise_plan"
"""Folder, within a version, of the table of its replaced captions."""
FLAG = "noise_flag"
"""Field of a text: whether it was replaced."""
KEPT = ("text_uid", "text", "language", "languages", "source", "sampling_weight", FLAG)
"""Fields that a replaced caption has; what others say was measured of the caption that stood there."""
MAX_SHARE = 0.9


@dataclass(frozen=True)
class Noisy:
    """A version of one share. num_replaced of num_texts captions belong to other samples."""

    share: float
    version: str
    num_replaced: int
    num_texts: int
    is_new: bool = True


def add_noise(store: Store, name: str, shares: Sequence[float], seed: int, say: Report) -> list[Noisy]:
    """Seal a version for each share above 0; share 0 is the version itself. The caller holds the store's lock.

    Raises StoreError for shares that are none, a version that has noise already, or too few captions to exchange.
    """
    wrong = [share for share in shares if not 0 <= share <= MAX_SHARE]
    if wrong or not shares or len(set(shares)) < len(shares):
        raise StoreError(f"shares {list(shares)}: give different numbers from 0 to {MAX_SHARE}, such as 0,0.05,0.1,0.2")
    folder = store.version_path(name)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if "noise" in manifest:
        raise StoreError(f"{folder.name} has noise already: add it to {manifest['noise']['of']}")
    shards = [folder / shard["name"] for shard in manifest["shards"]]
    plan = _plan(shards, seed)
    num_texts = int(manifest["num_texts"])
    planned = {share: int(Fraction(repr(share)) * num_texts) for share in shares}
    if max(planned.values()) > plan.num_rows:
        raise StoreError(
            f"{folder.name}: {plan.num_rows:,} of {num_texts:,} captions can be exchanged for one of another sample in "
            f"the same language, {max(planned.values()):,} are wanted: ask for a smaller share"
        )
    found = []
    for share in sorted(shares):
        if planned[share] == 0:
            found.append(Noisy(share, folder.name, 0, num_texts, is_new=False))
        else:
            found.append(_sealed(folder, manifest, plan.slice(0, planned[share]), share, seed))
        say(f"  noise {100 * share:g}%: {found[-1].num_replaced:,} of {num_texts:,} captions in {found[-1].version}")
    return found


def _plan(shards: Sequence[Path], seed: int) -> pa.Table:
    """The captions that can be replaced, in the order in which they are (`sql/noise/plan.sql`)."""
    con = database.connect()
    con.read_parquet([str(path) for path in shards]).create_view("shards")
    con.execute(
        "create view captions as select sample_uid, text.text_uid as text_uid, text.text as text, "
        "coalesce(text.language, '') as language "
        "from (select sample_uid, unnest(texts) as text from shards) where text.text is not null"
    )
    found = database.arrow(con, database.query("noise/plan"), {"seed": str(seed)})
    con.close()
    return found


def _sealed(folder: Path, manifest: dict[str, Any], plan: pa.Table, share: float, seed: int) -> Noisy:
    """The version with the captions of `plan` replaced, sealed unless it is."""
    version = digest("noise", VERSION, manifest["digest"], seed, plan.num_rows)
    percent = f"{100 * share:g}".replace(".", "_")
    new = folder.with_name(f"{folder.name.rpartition('-')[0]}-noise{percent}-{version[:NAME_DIGITS]}")
    noisy = Noisy(share, new.name, plan.num_rows, int(manifest["num_texts"]))
    if (new / "manifest.json").is_file():
        return Noisy(share, new.name, plan.num_rows, noisy.num_texts, is_new=False)
    replaced = {row["text_uid"]: row for row in plan.select(["text_uid", "replacement"]).to_pylist()}
    shards, num_replaced = [], 0
    for index, shard in enumerate(manifest["shards"]):
        counts = [0]
        batches = _replaced(folder / shard["name"], replaced, counts)
        first = next(batches)
        plain = [field.name for field in first.schema if pa.types.is_binary(field.type)]
        reader = pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
        stats = {"num_texts": shard["num_texts"]}
        part = write_part(new, index, digest(version, index), reader, stats=stats, plain=plain)
        list(batches)  # of a part that was there already, for its count
        num_replaced += counts[0]
        shards.append(shard_entry(new, part, shard))
    if num_replaced != plan.num_rows:
        raise StoreError(f"{new.name}: {num_replaced:,} captions replaced, {plan.num_rows:,} planned: {folder} changed")
    file = write_part(new / PLAN, 0, digest(version, PLAN), plan).path
    removed = (manifest.get("decontamination") or {}).get("file")
    if removed is not None:
        link(folder / removed, new / removed)
    columns = {field.name: str(field.type) for field in pq.read_schema(new / shards[0]["name"])}
    noise = {"of": folder.name, "share": share, "seed": seed, "num_replaced": num_replaced,
             "file": file.relative_to(new).as_posix()}  # fmt: skip
    content = {**manifest, "name": new.name, "digest": version, "columns": columns, "shards": shards, "noise": noise}
    replace_text(new / "manifest.json", json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return noisy


def _replaced(shard: Path, replaced: dict[str, dict[str, Any]], counts: list[int]) -> Iterator[pa.RecordBatch]:
    """The row groups of a shard with the captions of the plan; counts[0] grows by those that were replaced."""
    kind = pq.read_schema(shard).field("texts").type
    fields = pa.struct([*kind.value_type, pa.field(FLAG, pa.bool_())])
    for group in read_groups(shard):
        lists: list[list[dict[str, Any]] | None] = []
        pairs = zip(group.column("sample_uid").to_pylist(), group.column("texts").to_pylist(), strict=True)
        for sample, texts in pairs:
            made = [_text(sample, text, replaced.get(text["text_uid"])) for text in texts or []]
            counts[0] += sum(text[FLAG] for text in made)
            lists.append(None if texts is None else made)
        at = group.schema.get_field_index("texts")
        column = pa.array(lists, pa.list_(fields))
        yield group.set_column(at, "texts", column).replace_schema_metadata(None).combine_chunks().to_batches()[0]


def _text(sample: str, text: dict[str, Any], plan: dict[str, Any] | None) -> dict[str, Any]:
    """A text as it stands in the noisy version."""
    if plan is None:
        return {**text, FLAG: False}
    said = {"text_uid": uid("text", sample, plan["replacement"]), "text": plan["replacement"], FLAG: True}
    if "languages" in text:
        said["languages"] = [text["language"]] if text.get("language") else []
    return {name: said.get(name, text.get(name)) if name in KEPT else None for name in [*text, FLAG]}
