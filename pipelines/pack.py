"""Pack: a sealed dataset version of what the policy kept: shuffled Parquet shards with bytes, and a manifest.

A version's name ends in a digest of what it holds (samples, texts, chosen columns, policy, layout), so the same content
has the same name and bytes however the pool grew, and a version that exists is not packed again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.media.decoded import DecodeLimits
from curation.policy import Weight
from curation.step import digest
from curation.table import replace_text, write_part
from pipelines import database, pack_faces
from pipelines.byte_index import write_index
from pipelines.decontamination_record import facts as decontamination_facts
from pipelines.decontamination_record import removed_rows, write_removed
from pipelines.pack_segments import FIXED, MODALITIES, pack_segment_shard
from pipelines.recipe import Pack
from pipelines.rule_sql import columns_read
from pipelines.selections import note_version
from pipelines.sources import file_digest
from pipelines.stage import Run, Wanted, run_parts
from pipelines.views import open_store
from pipelines.workers import Task

VERSION = 1
"""Of the layout of shards and manifest."""
FORMAT = "tamis.dataset/1"
NAME_DIGITS = 12


def pack(run: Run) -> dict[str, Any]:
    """Pack what the decisions keep into a version, or reuse the version that holds just that."""
    plan = plan_version(run)
    if plan.num_rows == 0:
        run.say(
            "  pack: the policy keeps nothing, so there is no version to pack; see `tamis sql STORE report/reasons`"
        )
        return {"samples": 0, "texts": 0, "parts_run": 0, "parts_reused": 0}
    recipe = run.recipe
    removed = removed_rows(run)
    blurring = recipe.pack.blur_faces
    facts = {**_provenance(run), "decontamination": decontamination_facts(run, removed)}
    facts |= pack_faces.facts(blurring, plan)
    version_digest = digest("pack", VERSION, facts, [str(field) for field in plan.schema], content_digest(plan))
    label = run.label
    folder = run.store.root / "versions" / f"{label}-{version_digest[:NAME_DIGITS]}"
    work: Callable[..., dict[str, Any]] = pack_shard
    settings: dict[str, Any] = {
        "limits": recipe.download.decode,
        "blur_quality": blurring.quality if blurring else None,
    }
    if has_segments(run):
        work, settings = pack_segment_shard, {"limits": recipe.download.av, "media": recipe.pack.media}
    wanted = []
    size = recipe.pack.samples_per_shard
    for index, start in enumerate(range(0, plan.num_rows, size)):
        key = digest(version_digest, index)
        arguments = {"plan": plan.slice(start, size), "folder": folder, "index": index, "key": key, **settings}
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
        replace_text(
            folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        )
    name = folder.name
    run.state.versions = [each for each in run.state.versions if each != name] + [name]
    note_version(run.store, run.state, name)
    run.say(f"  pack: version {name}{' (reused)' if sealed else ''}")
    return {"version": name, "samples": plan.num_rows, "texts": _num_texts(plan), **stats}


def plan_version(run: Run) -> pa.Table:
    """The kept samples in shard order, everything but the bytes, with the file and row where those lie."""
    con = open_store(run.store, run.state)
    columns = {str(row["column_name"]) for row in database.rows(con, "describe candidates")}
    clean = "coalesce(text_clean, text)" if "text_clean" in columns else "text"
    language = "coalesce(language, language_claimed)" if "language" in columns else "language_claimed"
    con.execute(
        "create view kept as select c.*, d.keep_probability, d.sampling_weight, "
        f"{clean} as text_final, {language} as language_final "
        "from candidates c join decided d using (text_uid) where d.kept"
    )
    media = [str(path) for path in run.store.files(run.state, "media")]
    con.read_parquet(media, filename=True, file_row_number=True).create_view("media_files")
    con.execute(
        "create view files as select media_uid, filename as file, file_row_number as row_in_file from media_files"
    )
    has_weights = any(isinstance(item, Weight) for item in run.round.policy)
    names = dict.fromkeys([*run.recipe.pack.text_columns, *(["sampling_weight"] if has_weights else [])])
    fields = "".join(f", {database.literal(n)}: k.{database.quoted(n)}" for n in names)
    # a column of the texts is given by the sample's first text that has it
    extra = "".join(
        f", arg_min(k.{database.quoted(n)}, k.position) as {database.quoted(n)}"
        for n in _extra(run.recipe.pack, has_segments(run))
    )
    extra += pack_faces.plan_field(run.recipe.pack.blur_faces)
    name = "pack/plan_segments" if has_segments(run) else "pack/plan"
    sql = database.query(name).replace("{text_fields}", fields).replace("{extra}", extra)
    plan = database.arrow(con, sql, {"seed": str(run.recipe.seed)})
    con.close()
    return plan


def _extra(settings: Pack, of_segments: bool) -> list[str]:
    fixed = {"sample_uid", "media_uid", "url", "image_format", "width_px", "height_px", "image_sha256", "texts"}
    fixed |= {*FIXED, *MODALITIES} if of_segments else set()
    return [name for name in dict.fromkeys(settings.columns) if name not in fixed]


def has_segments(run: Run) -> bool:
    """Whether the store's media are segments of video and audio."""
    return "sources" in run.state.tables


def content_digest(plan: pa.Table) -> str:
    """SHA-256 over the rows of the plan in order, files left out: what the version holds, not where it came from."""
    state = hashlib.sha256()
    for row in plan.drop_columns(["file", "row_in_file"]).to_pylist():
        state.update(json.dumps(row, sort_keys=True, default=repr).encode())
        state.update(b"\n")
    return state.hexdigest()


def _num_texts(plan: pa.Table) -> int:
    return int(pc.sum(pc.list_value_length(plan.column("texts"))).as_py() or 0)


def pack_shard(
    plan: pa.Table,
    folder: Path,
    index: int,
    key: str,
    limits: DecodeLimits | None = None,
    blur_quality: int | None = None,
) -> dict[str, Any]:
    """Bring the bytes of one shard's samples together and publish it. Runs in a worker.

    limits, blur_quality: for pictures whose faces are to be blurred (`pipelines.pack_faces`).
    """
    images: Sequence[bytes] = _bytes_of(plan)
    for row, image in enumerate(images):
        if hashlib.sha256(image).hexdigest() != plan.column("image_sha256")[row].as_py():
            uid = plan.column("sample_uid")[row].as_py()
            raise ValueError(f"the bytes of sample {uid} in {plan.column('file')[row]} are not those that were stored")
    if blur_quality is not None:
        plan, images = pack_faces.blur(plan, images, blur_quality, limits or DecodeLimits())
    position = plan.column_names.index("image_format")
    table = plan.drop_columns(["file", "row_in_file"]).add_column(position, "image", pa.array(images, pa.binary()))
    table = table.replace_schema_metadata(None)
    part = write_part(folder, index, key, table, stats={"num_texts": _num_texts(plan)}, plain=["image"])
    write_index(folder, part)
    return {"rows": part.num_rows, "bytes": sum(len(image) for image in images)}


def _bytes_of(plan: pa.Table) -> list[bytes]:
    """The encoded pictures in the plan's order; of each part only the row groups that hold one are read."""
    found: list[bytes] = [b""] * plan.num_rows
    by_file: dict[str, list[tuple[int, int]]] = {}
    places = zip(plan.column("file").to_pylist(), plan.column("row_in_file").to_pylist(), strict=True)
    for position, (file, row) in enumerate(places):
        by_file.setdefault(file, []).append((row, position))
    for file, rows in sorted(by_file.items()):
        rows.sort()
        with pq.ParquetFile(file, page_checksum_verification=True) as source:
            first = 0
            for group in range(source.num_row_groups):
                size = source.metadata.row_group(group).num_rows
                inside = [(row - first, position) for row, position in rows if first <= row < first + size]
                if inside:
                    column = source.read_row_group(group, columns=["bytes"]).column(0)
                    for row, position in inside:
                        found[position] = column[row].as_py()
                first += size
    return found


def _contents(folder: Path, version: str, plan: pa.Table, shards: list[dict[str, Any]]) -> dict[str, Any]:
    languages = Counter(text["language"] or "unknown" for texts in plan.column("texts").to_pylist() for text in texts)
    schema = pq.read_schema(folder / shards[0]["name"])
    return {
        "format": FORMAT,
        "name": folder.name,
        "digest": version,
        "num_samples": plan.num_rows,
        "num_texts": _num_texts(plan),
        "languages": dict(sorted(languages.items())),
        "columns": {field.name: str(field.type) for field in schema},
        "shards": shards,
    }


def _provenance(run: Run) -> dict[str, Any]:
    """What decided the content: recipe, policy, and the signals that policy and packing read."""
    recipe, settings = run.recipe, run.recipe.pack
    read = {name for item in run.round.policy for name in columns_read(item)}
    read |= {*settings.columns, *settings.text_columns, "text_clean", "language"}
    read |= {settings.blur_faces.boxes} if settings.blur_faces else set()
    media = {} if not has_segments(run) else {"media": settings.media.model_dump()}
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
