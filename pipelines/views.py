"""The store as SQL sees it: one view a table, `candidates` (all columns of a text side by side) and `ledger`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa

from curation.generator import GENERATED
from curation.metadata_lists import ENTRIES
from curation.schema import MEDIA, SEGMENT_TEXTS, SEGMENTS, TEXTS, UNSEEN
from curation.table import open_part
from pipelines import database
from pipelines.decided import create_decided
from pipelines.model_views import create_model_views
from pipelines.selections import selections
from pipelines.store import State, Store, legend_name, read_json
from pipelines.stored_columns import create_stored_columns

DUPLICATES = pa.schema([("media_uid", pa.string()), ("duplicate_group", pa.string())])
DUPLICATE_EDGES = pa.schema(
    [("media_uid", pa.string()), ("other_uid", pa.string()), ("kind", pa.string()), ("distance", pa.int32())]
)
TEXT_DUPLICATES = pa.schema([("text_uid", pa.string()), ("text_duplicate_group", pa.string())])
TEXT_DUPLICATE_EDGES = pa.schema(
    [("text_uid", pa.string()), ("other_uid", pa.string()), ("kind", pa.string()), ("similarity", pa.float64())]
)
SEMANTIC_EDGES = pa.schema(
    [("uid", pa.string()), ("other_uid", pa.string()), ("level", pa.string()), ("kind", pa.string()),
     ("similarity", pa.float64()), ("cluster", pa.int64())]
)  # fmt: skip
SEGMENT_MATCHES = pa.schema(
    [("media_uid", pa.string()), ("other_uid", pa.string()), ("kind", pa.string()), ("offset_s", pa.float64()),
     ("overlap_s", pa.float64()), ("distance", pa.float64())]
)  # fmt: skip
"""Pairs of segments that have a stretch in common; what is at t in the first is at t + offset_s in the other."""
SEGMENTS_VIEW = pa.schema([field for field in SEGMENTS if field.name not in ("bytes", *UNSEEN)])
EVALUATION_MATCHES = pa.schema(
    [("rule", pa.string()), ("level", pa.string()), ("uid", pa.string()), ("evaluation_set", pa.string()),
     ("item", pa.string()), ("kind", pa.string()), ("distance", pa.int32()), ("similarity", pa.float64())]
)  # fmt: skip
SEARCHES = {
    "text_duplicates": TEXT_DUPLICATES,
    "text_duplicate_edges": TEXT_DUPLICATE_EDGES,
    "semantic_edges": SEMANTIC_EDGES,
    "evaluation_matches": EVALUATION_MATCHES,
}
"""Tables of searches that a recipe may or may not ask for (`pipelines/duplicates.py`)."""
VERSIONS = pa.schema(
    [("version", pa.string()), ("digest", pa.string()), ("num_samples", pa.int64()), ("num_texts", pa.int64()),
     ("num_shards", pa.int64()), ("size_bytes", pa.int64()), ("packed", pa.int64())]
)  # fmt: skip
RUNS = pa.schema(
    [("run", pa.string()), ("started_at", pa.string()), ("seconds", pa.float64()), ("recipe", pa.string()),
     ("outcome", pa.string()), ("round", pa.string()), ("stage", pa.string()), ("stage_seconds", pa.float64()),
     ("parts_run", pa.int64()), ("parts_reused", pa.int64()), ("counts", pa.string())]
)  # fmt: skip
SELECTIONS = pa.schema(
    [("selection", pa.string()), ("label", pa.string()), ("number", pa.int64()), ("version", pa.string()),
     ("is_shown", pa.bool_())]
)  # fmt: skip
"""number: order in which they were made. is_shown: whether `ledger` and `decisions` are this one's."""
ENTRY_MATCHES = pa.schema([("text_uid", pa.string()), ("entry_id", pa.int32())])
TEXT_TAGS = pa.schema([("text_uid", pa.string()), ("tags", pa.list_(pa.string())), ("tags_by", pa.string())])
ENTRIES_LEGEND = pa.schema([("entry_id", pa.int32()), *ENTRIES])
MEMBERS = pa.schema([("version", pa.string()), ("sample_uid", pa.string()), ("text_uid", pa.string())])


def open_store(store: Store, state: State | None = None, locked: bool = False) -> database.Connection:
    """A database with the store's views. With `locked` it can read files below the store and nothing else.

    What does not fit into memory goes into the store's cache, unless the store may only be read.
    """
    state = state or store.state()
    spill = store.root / "cache" if os.access(store.root, os.W_OK) else None
    con = database.connect(allowed=store.root if locked else None, spill=spill)
    database.create_view(con, "media", store.files(state, "media"), MEDIA)
    database.create_view(con, "texts", store.texts_files(state), TEXTS)
    _create_generated(con)
    has_segments = "sources" in state.tables
    database.create_view(con, "sources", store.files(state, "sources"), MEDIA)
    database.create_view(con, "source_texts", store.texts_files() if has_segments else [], TEXTS)
    if not has_segments:
        database.create_view(con, "segments", [], SEGMENTS_VIEW)
        database.create_view(con, "segment_texts", [], SEGMENT_TEXTS)
    else:
        con.execute("create view segments as select * exclude (bytes, frame, subtitles) from media")
        con.execute("create view segment_texts as select * from texts")
    database.create_view(con, "segment_matches", store.files(state, "segment_matches"), SEGMENT_MATCHES)
    for table in sorted(state.signals):
        database.create_view(con, table, store.files(state, f"signal_{table}"))
    _create_entries(con, store, state)
    database.create_view(con, "duplicates", store.files(state, "duplicates"), DUPLICATES)
    database.create_view(con, "duplicate_edges", store.files(state, "duplicate_edges"), DUPLICATE_EDGES)
    for table, schema in SEARCHES.items():
        database.create_view(con, table, store.files(state, table), schema)
    create_decided(con, "decided", store.files(state, "decisions"))
    con.execute(f"create view decisions as {database.query('views/decisions')}")
    con.register("policy_rules", _policy_rules(store, state))
    shards = [path for name in state.versions for path in sorted((store.root / "versions" / name).glob("*.parquet"))]
    _create_members(con, shards)
    con.register("versions", _versions(store, state))
    create_stored_columns(con, store, state)
    con.register("selections", _selections(store, state))
    con.register("runs", _runs(store))
    create_model_views(con, store)
    con.execute(_candidates(state, has_segments))
    columns = set(_columns(con, "candidates"))
    con.execute(_ledger(columns, has_segments))
    return con


def _columns(con: database.Connection, view: str) -> list[str]:
    return [str(row["column_name"]) for row in database.rows(con, f"describe {database.quoted(view)}")]


def _candidates(state: State, has_segments: bool) -> str:
    """One row for each text with all columns of its sample's primary medium and of all signals."""
    unseen = f", {', '.join(UNSEEN)}" if has_segments else ""
    joins, columns = [], ["t.*", f"m.* exclude (sample_uid, bytes{unseen})"]
    for table, level in sorted(state.signals.items()):
        name, uid = database.quoted(table), "media_uid" if level == "media" else "text_uid"
        joins.append(f"left join {name} on {name}.{uid} = {'m' if level == 'media' else 't'}.{uid}")
        columns.append(f"{name}.* exclude ({uid}, reason)")
    return (
        f"create view candidates as select {', '.join(columns)} from texts t "
        f"left join media m on m.sample_uid = t.sample_uid and m.role = 'primary' {' '.join(joins)}"
    )


def _ledger(columns: set[str], has_segments: bool) -> str:
    """The stored query, told which optional columns (repaired text, resolved language, CLIP score) there are; of
    segments with their source and times."""
    sql = database.query("views/ledger")
    optional = {
        "text_clean": "null::varchar",
        "language": "null::varchar",
        "clip_score": "null::float",
    }
    missing = ", ".join(f"{null} as {name}" for name, null in optional.items() if name not in columns)
    source = f"(select *{', ' + missing if missing else ''} from candidates)"
    if has_segments:
        sql = f"{sql}\n)\n{database.query('views/segment_ledger')}"
        return f"create view ledger as with rows as {source}, plain as (\n{sql}"
    return f"create view ledger as with rows as {source} {sql}"


def _create_generated(con: database.Connection) -> None:
    """View `generated_texts`: those of the texts that generators wrote (the stage `enrich`), with their columns."""
    if "generated_for" in _columns(con, "texts"):
        con.execute("create view generated_texts as select * from texts where generator is not null")
    else:
        database.create_view(con, "generated_texts", [], pa.schema([*TEXTS, *GENERATED]))


def _create_entries(con: database.Connection, store: Store, state: State) -> None:
    """Views `entry_matches` (which text holds which metadata entry), `entries` (what the ids stand for) and `text_tags`
    (the tags of each text)."""
    database.create_view(con, "entries", store.files(state, legend_name("metadata_entries")), ENTRIES_LEGEND)
    if "metadata_entries" in state.signals:
        con.execute("create view entry_matches as select text_uid, unnest(entry_ids) as entry_id from metadata_entries")
    else:
        database.create_view(con, "entry_matches", [], ENTRY_MATCHES)
    if "caption_tags" in state.signals:
        con.execute("create view text_tags as select text_uid, tags, tags_by from caption_tags")
    else:
        database.create_view(con, "text_tags", [], TEXT_TAGS)


def _create_members(con: database.Connection, shards: list[Path]) -> None:
    """View `members`: which texts of which samples each version holds."""
    if not shards:
        database.create_view(con, "members", [], MEMBERS)
        return
    listed = ", ".join(database.literal(str(path)) for path in shards)
    con.execute(
        f"create view named_shards as from read_parquet([{listed}], filename = 'tamis__file', union_by_name = true)"
    )
    # a column `filename` of a link table comes first
    con.execute("create view shards as select * exclude (tamis__file), tamis__file as filename from named_shards")
    con.execute(
        "create view members as select parse_path(tamis__file)[-2] as version, sample_uid, "
        "unnest(list_transform(texts, lambda text: text.text_uid)) as text_uid from named_shards"
    )


def _policy_rules(store: Store, state: State) -> pa.Table:
    """View `policy_rules`: the rules of the policy that made the decisions, in order."""
    files = store.files(state, "decisions")
    rules = open_part(files[0]).stats["rules"] if files else []
    return pa.table({"place": pa.array(range(len(rules)), pa.int32()), "rule": pa.array(rules, pa.string())})


def _versions(store: Store, state: State) -> pa.Table:
    rows = []
    for path in sorted((store.root / "versions").glob("*/manifest.json")):
        manifest, name = read_json(path, "digest", "num_samples", "num_texts", "shards"), path.parent.name
        rows.append(
            {
                "version": name,
                "digest": manifest["digest"],
                "num_samples": manifest["num_samples"],
                "num_texts": manifest["num_texts"],
                "num_shards": len(manifest["shards"]),
                "size_bytes": sum(shard["size_bytes"] for shard in manifest["shards"]),
                "packed": state.versions.index(name) if name in state.versions else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=VERSIONS)


def _selections(store: Store, state: State) -> pa.Table:
    """View `selections`: what each policy decided is kept under these names."""
    rows = [
        {"selection": each.name, "label": each.label, "number": each.number, "version": each.version,
         "is_shown": each.name == state.selection}
        for each in selections(store)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SELECTIONS)


def _runs(store: Store) -> pa.Table:
    rows = []
    for path in sorted((store.root / "runs").glob("*.json")):
        run = read_json(path, "stages")
        for stage in run["stages"] or [{}]:
            rows.append(
                {name: run.get(name) for name in ("run", "started_at", "seconds", "recipe", "outcome")}
                | {name: stage.get(name) for name in ("round", "stage", "parts_run", "parts_reused")}
                | {"stage_seconds": stage.get("seconds"), "counts": json.dumps(stage.get("counts", {}))}
            )
    return pa.Table.from_pylist(rows, schema=RUNS)
