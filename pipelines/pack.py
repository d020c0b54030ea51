"""Pack: a sealed dataset version of what the policy kept: shuffled Parquet shards with bytes, and a manifest.

A version's name ends in a digest of what it holds (samples, texts, chosen columns, policy, layout), so the same content
has the same name and bytes however the pool grew, and a version that exists is not packed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.file_digest import file_digest
from curation.media.decoded import DecodeLimits
from curation.step import digest
from curation.table import ROW_GROUP_ROWS, TEMPORARY_PREFIX, replace_text, write_part
from curation.versions import VERSION_FORMAT
from pipelines import pack_faces
from pipelines.byte_index import write_index
from pipelines.decontamination_record import facts as decontamination_facts
from pipelines.decontamination_record import removed_rows, write_removed
from pipelines.pack_plan import Plan, has_segments, plan_version
from pipelines.pack_segments import MODALITIES, pack_segment_shard
from pipelines.plan_file import FILE, num_texts, stored_bytes, without_places
from pipelines.rule_sql import columns_read
from pipelines.selections import gates_of_present, note_version
from pipelines.stage import Run, Wanted, run_parts
from pipelines.workers import Task

VERSION = 2
"""Of the layout of shards and manifest."""
NAME_DIGITS = 12


def pack(run: Run) -> dict[str, Any]:
    """Pack what the decisions keep into a version, or reuse the version that holds just that."""
    with TemporaryDirectory(prefix=f"{TEMPORARY_PREFIX}pack-", dir=run.store.root) as scratch:
        plan = plan_version(run, Path(scratch))
        if plan.files:
            return _packed(run, plan)
    run.say("  pack: the policy keeps nothing, so there is no version to pack; see `tamis sql STORE report/reasons`")
    return {"samples": 0, "texts": 0, "parts_run": 0, "parts_reused": 0}


def _packed(run: Run, plan: Plan) -> dict[str, Any]:
    recipe = run.recipe
    removed = removed_rows(run)
    blurring = recipe.pack.blur_faces
    facts = {**_provenance(run), "decontamination": decontamination_facts(run, removed)}
    facts |= pack_faces.facts(blurring, plan.faces)
    version_digest = digest("pack", VERSION, facts, plan.columns, plan.digest)
    folder = run.store.root / "versions" / f"{run.label}-{version_digest[:NAME_DIGITS]}"
    work: Callable[..., dict[str, Any]] = pack_shard
    settings: dict[str, Any] = {
        "limits": recipe.download.decode,
        "blur_quality": blurring.quality if blurring else None,
    }
    if has_segments(run):
        work, settings = pack_segment_shard, {"limits": recipe.download.av, "media": recipe.pack.media}
    wanted = []
    for index, file in enumerate(plan.files):
        key = digest(version_digest, index)
        arguments = {"plan": file, "root": run.store.root, "folder": folder, "index": index, "key": key, **settings}
        wanted.append(Wanted(folder, index, key, Task(f"pack of shard {index}", work, arguments)))
    sealed = (folder / "manifest.json").exists()
    parts, stats = run_parts(run, "pack", wanted)
    ranges = [write_index(folder, part) for part in parts]  # made with the shards; a lost one is made again
    more = [name for name in MODALITIES if name != "image"] if has_segments(run) else []
    media_ranges = [{name: write_index(folder, part, name) for name in more} for part in parts]
    if not sealed:
        shards = [
            {
                "name": part.path.name,
                "num_samples": part.num_rows,
                "num_texts": part.stats["num_texts"],
                "size_bytes": part.path.stat().st_size,
                "sha256": file_digest(part.path),
                "ranges": index,
                **({"media_ranges": of_media} if of_media else {}),
            }
            for part, index, of_media in zip(parts, ranges, media_ranges, strict=True)
        ]
        facts["decontamination"] = write_removed(folder, removed, facts["decontamination"])
        manifest = {**_contents(folder, version_digest, plan, shards), **facts}
        gates = gates_of_present(run.store, run.state)  # no part of the digest: the pool's other rows count in them
        manifest |= {"gates": gates} if gates else {}
        replace_text(
            folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        )
    name = folder.name
    run.state.versions = [each for each in run.state.versions if each != name] + [name]
    note_version(run.store, run.state, name)
    run.say(f"  pack: version {name}{' (reused)' if sealed else ''}")
    held = {"digest": plan.digest}  # of the rows alone: the same for policies that keep the same
    return {"version": name, "samples": plan.num_samples, "texts": plan.num_texts, "content": held, **stats}


def pack_shard(
    plan: Path,
    root: Path,
    folder: Path,
    index: int,
    key: str,
    limits: DecodeLimits | None = None,
    blur_quality: int | None = None,
) -> dict[str, Any]:
    """Bring the bytes of one shard's samples together and publish it. Runs in a worker.

    plan: the file of the shard's plan; root: folder of the store. limits, blur_quality: for pictures whose faces are to
    be blurred (`pipelines.pack_faces`). Raises ValueError where stored bytes are not those that were fetched.
    """
    planned = pq.read_table(plan)
    num_bytes = [0]

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, planned.num_rows, ROW_GROUP_ROWS):
            rows = planned.slice(start, ROW_GROUP_ROWS)
            images: Sequence[bytes] = list(map(_checked, rows.select(CHECKED).to_pylist(), stored_bytes(root, rows)))
            if blur_quality is not None:
                rows, images = pack_faces.blur(rows, images, blur_quality, limits or DecodeLimits())
            num_bytes[0] += sum(len(image) for image in images)
            position = rows.column_names.index("image_format")
            table = without_places(rows).add_column(position, "image", pa.array(images, pa.binary()))
            yield table.combine_chunks().to_batches()[0]

    made = batches()
    first = next(made)
    reader = pa.RecordBatchReader.from_batches(first.schema, chain([first], made))
    part = write_part(folder, index, key, reader, stats={"num_texts": num_texts(planned)}, plain=["image"])
    write_index(folder, part)
    return {"rows": part.num_rows, "bytes": num_bytes[0]}


CHECKED = ["sample_uid", FILE, "image_sha256"]


def _checked(row: dict[str, Any], image: bytes | None) -> bytes:
    if image is None or hashlib.sha256(image).hexdigest() != row["image_sha256"]:
        raise ValueError(f"the bytes of sample {row['sample_uid']} in {row[FILE]} are not those that were stored")
    return image


def _contents(folder: Path, version: str, plan: Plan, shards: list[dict[str, Any]]) -> dict[str, Any]:
    schema = pq.read_schema(folder / shards[0]["name"])
    return {
        "format": VERSION_FORMAT,
        "name": folder.name,
        "digest": version,
        "num_samples": plan.num_samples,
        "num_texts": plan.num_texts,
        "languages": dict(sorted(plan.languages.items())),
        "columns": {field.name: str(field.type) for field in schema},
        "shards": shards,
    }


def _provenance(run: Run) -> dict[str, Any]:
    """What decided the content: recipe, policy, and the signals that policy and packing read."""
    recipe, settings = run.recipe, run.recipe.pack
    read = {name for item in run.round.policy for name in columns_read(item)}
    read |= {*settings.columns, *settings.text_columns, "text_clean", "language"}
    read |= {settings.blur_faces.boxes} if settings.blur_faces else set()
    of_media = {**settings.media.model_dump(), "version": settings.media.version}
    media = {"media": of_media} if has_segments(run) else {}
    return {
        "recipe": {"name": recipe.name, "seed": recipe.seed, "samples_per_shard": settings.samples_per_shard, **media},
        "policy": [item.model_dump() for item in run.round.policy],
        "signals": _signal_keys(run, read),
    }


def _signal_keys(run: Run, read: set[str]) -> dict[str, str]:
    """Keys of the stored signals that give one of these columns. No model is loaded."""
    found = {}
    for table in sorted(run.state.signals):
        files = run.store.files(run.state, f"signal_{table}")
        if files and read & set(pq.read_schema(files[0]).names) - {"text_uid", "media_uid", "reason"}:
            found[table] = run.state.signal_keys.get(table, "")
    return found
