"""Versions without what was taken down: sealed anew under another name, for their digest is that of their content.

Shards that hold none of it are the same files; of the others the rows go. The old version is removed once the new one
is sealed.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.step import digest
from curation.table import Part, read_groups, read_part, replace_text, write_part
from pipelines.pack import NAME_DIGITS
from pipelines.plan_file import num_texts
from pipelines.selections import rename_version
from pipelines.store import Store
from pipelines.version_shards import link, shard_entry


def seal_anew(
    store: Store, media: Collection[str], versions: dict[str, str | None], shards: dict[str, list[str]]
) -> None:
    """Replace each version that holds one of `media` (media_uid); notes old -> new, and the shards that held it."""
    meant = pa.array(sorted(media), pa.string())
    for path in sorted((store.root / "versions").glob("*/manifest.json")):
        folder, manifest = path.parent, json.loads(path.read_text(encoding="utf-8"))
        held = {shard["name"]: _held(folder / shard["name"], meant) for shard in manifest["shards"]}
        held = {name: uids for name, uids in held.items() if uids}
        if not held:
            continue
        made = _sealed(folder, manifest, held, meant)
        versions[folder.name] = made
        shards[folder.name] = sorted(held)
        rename_version(store, folder.name, made)
        state = store.state()
        state.versions = [
            name for name in (made if each == folder.name else each for each in state.versions) if name is not None
        ]
        store.save_state(state)
        shutil.rmtree(folder)


def _held(shard: Path, meant: pa.Array) -> list[str]:
    column = read_part(shard, ["media_uid"]).column(0)
    return sorted(column.filter(pc.is_in(column, value_set=meant)).to_pylist())


def _sealed(folder: Path, manifest: dict[str, Any], held: dict[str, list[str]], meant: pa.Array) -> str | None:
    """Seal the version without these media; returns its name, None where nothing is left."""
    gone = sorted({uid for uids in held.values() for uid in uids})
    version = digest("takedown", manifest["digest"], gone)
    new = folder.with_name(f"{folder.name.rpartition('-')[0]}-{version[:NAME_DIGITS]}")
    shards, lost = [], Counter[str]()
    for index, shard in enumerate(manifest["shards"]):
        if shard["name"] in held:
            part = _without(folder / shard["name"], new, index, digest(version, index), meant, lost)
            if part is not None:
                shards.append(shard_entry(new, part, shard))
            continue
        for name in (shard["name"], *([shard["ranges"]] if "ranges" in shard else []),
                     *shard.get("media_ranges", {}).values()):  # fmt: skip
            link(folder / name, new / name)
        shards.append(shard)
    if not shards:
        shutil.rmtree(new, ignore_errors=True)
        return None
    for made_of in ("decontamination", "noise"):
        beside = (manifest.get(made_of) or {}).get("file")
        if beside is not None:
            link(folder / beside, new / beside)
    languages = Counter(manifest["languages"])
    languages.subtract(lost)
    content = {
        **manifest,
        "digest": version,
        "name": new.name,
        "num_samples": sum(shard["num_samples"] for shard in shards),
        "num_texts": sum(shard["num_texts"] for shard in shards),
        "languages": {tag: count for tag, count in sorted(languages.items()) if count > 0},
        "shards": shards,
        "takedown": {"before": manifest["name"], "media": len(gone)},
    }
    replace_text(new / "manifest.json", json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return new.name


def _without(shard: Path, folder: Path, index: int, key: str, meant: pa.Array, lost: Counter[str]) -> Part | None:
    """The shard without these media, its row groups as they were; None where nothing is left. lost: texts by language
    that went with them."""
    schema = pq.read_schema(shard).remove_metadata()
    narrow = read_part(shard, ["media_uid", "texts"])
    is_gone = pc.is_in(narrow.column("media_uid"), value_set=meant)
    texts = narrow.filter(is_gone).column("texts").combine_chunks().flatten()
    counts = pc.value_counts(pc.fill_null(texts.field("language"), "unknown"))
    lost.update({each["values"]: each["counts"] for each in counts.to_pylist()})
    left = narrow.filter(pc.invert(is_gone))
    if not left.num_rows:
        return None

    def batches() -> Iterator[pa.RecordBatch]:
        for group in read_groups(shard):
            kept = group.filter(pc.invert(pc.is_in(group.column("media_uid"), value_set=meant)))
            yield from kept.replace_schema_metadata(None).combine_chunks().to_batches()

    made = batches()
    first = next(made)
    plain = [field.name for field in schema if pa.types.is_binary(field.type)]
    reader = pa.RecordBatchReader.from_batches(schema, chain([first], made))
    return write_part(folder, index, key, reader, stats={"num_texts": num_texts(left)}, plain=plain)
