"""What a version will hold, without the bytes: planned on disk, a file for each shard, however many are kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.byte_ranges import byte_ranges
from curation.policy import Weight
from curation.rows_digest import rows_digest
from curation.step import digest
from curation.table import open_part, read_part, write_part
from pipelines import database, pack_faces
from pipelines.pack_segments import FIXED, MODALITIES
from pipelines.plan_file import num_texts, without_places
from pipelines.pool_growth import is_first
from pipelines.recipe import Pack
from pipelines.stage import Run, Wanted, run_parts
from pipelines.views import open_store
from pipelines.workers import Task

TEXT = "texts."
SORTED_ROWS = 50_000
"""Rows that are taken from the sort at a time."""


@dataclass
class Plan:
    """The shards that a version will have, and what they hold together."""

    files: list[Path] = field(default_factory=list)
    """For each shard its samples in order, texts nested, with their places."""
    num_samples: int = 0
    num_texts: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    columns: list[str] = field(default_factory=list)
    """Names and types."""
    faces: pack_faces.Faces = field(default_factory=pack_faces.Faces)
    _state: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, rows: pa.Table, folder: Path) -> None:
        """The next shard."""
        self.files.append(folder / f"plan-{len(self.files):06d}.parquet")
        pq.write_table(rows, self.files[-1], compression="lz4")
        texts = rows.column("texts").combine_chunks().flatten()
        self.columns = [f"{field.name}: {field.type}" for field in without_places(rows).schema]
        self.num_samples += rows.num_rows
        self.num_texts += num_texts(rows)
        counts = pc.value_counts(pc.fill_null(texts.field("language"), "unknown"))
        self.languages.update({each["values"]: each["counts"] for each in counts.to_pylist()})
        self.faces.add(rows)
        self._state.update(rows_digest(without_places(rows)).encode())

    @property
    def digest(self) -> str:
        """SHA-256 of what the version holds, not of where it came from."""
        return self._state.hexdigest()


def has_segments(run: Run) -> bool:
    """Whether the store's media are segments of video and audio."""
    return "sources" in run.state.tables


def plan_version(run: Run, scratch: Path) -> Plan:
    """Plan the version that the decisions make; its files go into `scratch`."""
    of_segments, settings = has_segments(run), run.recipe.pack
    con = open_store(run.store, run.state)
    con.execute("set temp_directory = ?", [str(scratch)])
    columns = {str(row["column_name"]) for row in database.rows(con, "describe candidates")}
    clean = "coalesce(text_clean, text)" if "text_clean" in columns else "text"
    language = "coalesce(language, language_claimed)" if "language" in columns else "language_claimed"
    con.execute(
        "create view kept as select c.*, d.keep_probability, d.sampling_weight, "
        f"{clean} as text_final, {language} as language_final "
        "from candidates c join decided d using (text_uid) where d.kept"
    )
    database.create_view(con, "places", _places(run), PLACES)
    has_weights = any(isinstance(item, Weight) for item in run.round.policy)
    names = dict.fromkeys([*settings.text_columns, *(["sampling_weight"] if has_weights else [])])
    fields = "".join(f", k.{database.quoted(n)} as {database.quoted(TEXT + n)}" for n in names)
    if "generated_for" in columns and not of_segments:  # a training run draws by it; of segments it is always there
        fields += f', k.text_source as "{TEXT}source"'
    extra = _extra(settings, of_segments)
    more = "".join(f", k.{database.quoted(n)}" for n in extra) + pack_faces.plan_field(settings.blur_faces)
    sql = database.query("pack/plan_segments" if of_segments else "pack/plan")
    sql = sql.replace("{text_fields}", fields).replace("{extra}", more)
    con.execute(f"create view planned as {sql.replace('$seed', database.literal(str(run.recipe.seed)))}")
    plan = Plan()
    rows = database.batches(con, "from planned", SORTED_ROWS)
    for shard in _shards(rows, settings.samples_per_shard):
        plan.add(_nested(shard, extra), scratch)
    con.close()
    return plan


def _extra(settings: Pack, of_segments: bool) -> list[str]:
    fixed = {"sample_uid", "media_uid", "url", "image_format", "width_px", "height_px", "image_sha256", "texts"}
    fixed |= {*FIXED, *MODALITIES} if of_segments else set()
    return [name for name in dict.fromkeys(settings.columns) if name not in fixed]


def _shards(batches: Iterable[pa.Table], samples: int) -> Iterator[pa.Table]:
    """The rows of so many samples at a time, of batches in which a sample's rows stand together."""
    held: list[pa.Table] = []
    num_held, last = 0, None
    for batch in batches:
        uids = batch.column("sample_uid").combine_chunks()
        starts = is_first(uids)
        starts[0] = uids[0].as_py() != last
        last = uids[-1].as_py()
        begin, sample = 0, num_held + np.cumsum(starts)  # 1 for the first sample of the shard
        for cut in np.flatnonzero(starts & (sample > 1) & ((sample - 1) % samples == 0)).tolist():
            yield pa.concat_tables([*held, batch.slice(begin, cut - begin)])
            held, begin = [], cut
        held.append(batch.slice(begin))
        num_held = (int(sample[-1]) - 1) % samples + 1
    if held:
        yield pa.concat_tables(held)


def _nested(rows: pa.Table, extra: list[str]) -> pa.Table:
    """One row for each sample of `rows`, its texts in a list; an `extra` column of the texts is given by the first text
    that has it."""
    rows = rows.combine_chunks()
    starts = np.flatnonzero(is_first(rows.column("sample_uid").combine_chunks()))
    samples = rows.take(starts)
    offsets = pa.array([*starts.tolist(), rows.num_rows], pa.int32())
    fields = [name for name in rows.column_names if name.startswith(TEXT)]
    values = [rows.column(name).combine_chunks() for name in fields]
    struct = pa.StructArray.from_arrays(values, [name.removeprefix(TEXT) for name in fields])
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name in rows.column_names:
        if name == fields[0]:
            columns["texts"] = pa.ListArray.from_arrays(offsets, struct)
        elif name == "has_text":
            each = rows.column(name).to_numpy()
            columns[name] = pa.array(np.logical_or.reduceat(each, starts))
        elif name in extra:
            columns[name] = _first_known(rows, name, starts)
        elif name not in fields and name != "position":
            columns[name] = samples.column(name)
    return pa.table(columns).replace_schema_metadata(None)


def _first_known(rows: pa.Table, name: str, starts: np.ndarray) -> pa.Array:
    """Of each sample the value that is not null of the text that comes first."""
    is_known = pc.is_valid(rows.column(name)).to_numpy()
    sample = np.searchsorted(starts, np.arange(rows.num_rows), side="right") - 1
    order = np.lexsort([rows.column("position").to_numpy(), ~is_known, sample])
    first = order[np.searchsorted(sample[order], np.arange(len(starts)))]
    return rows.column(name).combine_chunks().take(pa.array(first))


# where the bytes are --------------------------------------------------------------------------------------------------

PLACES = pa.schema(
    [("media_uid", pa.string()), ("file", pa.string()), ("start", pa.int64()), ("length", pa.int32()),
     ("frame_start", pa.int64()), ("frame_length", pa.int32())]
)  # fmt: skip
"""file: path of the part; start, length: the range of bytes in it; length -1 where there are none."""


def _places(run: Run) -> list[Path]:
    """Tables of where each medium's bytes lie, made where they are missing.

    A shard's samples come from everywhere in the pool: reading whole row groups for them would read the pool once for
    each shard.
    """
    folder = run.store.table("byte_ranges")
    wanted = []
    for path in run.store.files(run.state, "media"):
        part, name = open_part(path), run.store.relative(path)
        key = digest("byte ranges", name, part.identity, path.stat().st_size)
        arguments = {"path": path, "name": name, "folder": folder, "index": part.index, "key": key}
        wanted.append(Wanted(folder, part.index, key, Task(f"byte ranges of {name}", write_places, arguments)))
    parts, _ = run_parts(run, "byte ranges", wanted)
    return [part.path for part in parts]


def write_places(path: Path, name: str, folder: Path, index: int, key: str) -> dict[str, int]:
    """Write the places of one part's media, the part being called `name`. Runs in a worker."""
    uids = read_part(path, ["media_uid"]).column(0)
    found = byte_ranges(path, "bytes")
    has_frames = "frame" in pq.read_schema(path).names
    frames = byte_ranges(path, "frame") if has_frames else found.schema.empty_table()
    columns = {"media_uid": uids, "file": pa.repeat(name, len(uids))}
    for column in found.column_names:
        columns[column] = found.column(column)
        kind = found.schema.field(column).type
        columns[f"frame_{column}"] = frames.column(column) if has_frames else pa.nulls(len(uids), kind)
    write_part(folder, index, key, pa.table(columns).select(PLACES.names).cast(PLACES))
    return {"rows": len(uids)}
