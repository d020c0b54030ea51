"""Take-down: what has to leave a store leaves its tables, its versions, its report and its caches, and stays out.

The one thing that changes parts which are there. The entries are on disk before anything is touched
(`pipelines.takedowns`), and all that follows from them can be done again: ended on the way, the same command goes
on. Of each medium a row stays, refused with `policy.takedown`, so that the accounts close; its texts stay, rejected.

media           the newest part gets a successor without the medium, so later steps compute that part anew; the parts
                before it lose the row's content in place, under the name that the chain of successors goes by
segments        those of its source, those that show it, those with its bytes lose their content in place
signals ...     parts made of the medium are deleted: the next run makes those that it needs from what is left
versions        each that holds it is sealed anew without it; the old one goes (`pipelines.takedown_versions`)
report, caches  are deleted: they are made again from what is left
models          cannot be made to forget: those that saw it are named
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.reasons import Reason
from curation.step import digest
from curation.table import (
    Part,
    find_part,
    open_part,
    part_path,
    publishing,
    read_groups,
    read_part,
    replace_text,
    replacing,
    write_parquet,
)
from pipelines import database
from pipelines.download import refresh_key, retry_key, takedown_key
from pipelines.segment_stage import SEGMENTS_TABLE
from pipelines.store import Store
from pipelines.takedown_versions import seal_anew
from pipelines.takedowns import FOLDER, KEPT, LOOKED_AT, Takedowns, taken
from pipelines.views import open_store

UIDS = ("media_uid", "uid", "generated_for")
"""Columns by which parts of signals, of vectors and of written texts name a medium."""
BASE = ("links", "texts", "media", "segments", "segment_texts")
NO_CONTENT = ("decisions", "duplicates", "duplicate_edges", "segment_matches", "semantic_edges", "evaluation_matches")
"""Tables that say which media belong together or are kept, and nothing that was learned from their bytes."""


@dataclass
class TakenDown:
    """What a take-down did."""

    media: dict[str, str] = field(default_factory=dict)
    """media_uid of what the store's entries mean and no take-down before has dealt with -> the entry."""
    parts: list[str] = field(default_factory=list)
    """Parts without it now, and parts that were deleted; relative to the store."""
    versions: dict[str, str | None] = field(default_factory=dict)
    """Version that held it -> the one in its place, None where nothing is left."""
    shards: dict[str, list[str]] = field(default_factory=dict)
    """Version -> its shards that held it."""
    models: list[str] = field(default_factory=list)
    """Training runs that saw one of these versions."""


def take_down(store: Store, links: Iterable[str], hashes: Iterable[str]) -> TakenDown:
    """Add the entries to those of the store and take out what they mean. Raises StoreError where a run is on."""
    done = TakenDown()
    with store.locked():
        takedowns = Takedowns.of(store.root).saved_with(store.root, links, hashes)
        before = _recorded(store)
        _media(store, takedowns, before, done)
        _segments(store, takedowns, before, done)
        if done.media:
            _derived(store, done)
            _set_state(store)
            for made in ("cache", "report"):
                shutil.rmtree(store.root / made, ignore_errors=True)
            seal_anew(store, done.media, done.versions, done.shards)
            done.models = _models(store, done.versions)
            _record(store, done)
    return done


def copies_of(store: Store, links: Iterable[str], hashes: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """(media that these entries mean, further media with the same bytes or in one duplicate group with them, as the
    last search found them), each as media_uid -> SHA-256; of films their segments, too."""
    entries = Takedowns(frozenset(links), frozenset(hashes))
    state = store.state()
    files = [*store.files(state, "sources"), *store.files(state, "media")]
    found: dict[str, str] = {}
    meant: dict[str, str] = {}
    for path in files:
        for row in read_part(path, LOOKED_AT).to_pylist():
            if row["sha256"] is not None:
                found[row["media_uid"]] = row["sha256"]
                if entries.entry_for(row) is not None:
                    meant[row["media_uid"]] = row["sha256"]
    con = open_store(store)
    group = "select duplicate_group from duplicates where media_uid in (select unnest($uids))"
    near = f"select media_uid from duplicates where duplicate_group in ({group})"
    same, near_uids = set(meant.values()), {row["media_uid"] for row in database.rows(con, near, {"uids": [*meant]})}
    con.close()
    others = {uid: sha256 for uid, sha256 in found.items() if sha256 in same or uid in near_uids}
    return meant, {uid: sha256 for uid, sha256 in others.items() if uid not in meant}


def list_copies(store: Store, hashes: Iterable[str]) -> Path:
    """Write what stays after the last take-down, though it is like what went, for `tamis takedown --list`."""
    path = store.root / FOLDER / f"{len(_records(store)):06d}-copies.txt"
    replace_text(path, "".join(f"{sha256}\n" for sha256 in sorted(set(hashes))))
    return path


def still_there(store: Store) -> list[str]:
    """One line for each part of media that holds what was taken down; for `tamis verify`."""
    takedowns = Takedowns.of(store.root)
    problems = []
    for path in _parts(store, "media") if takedowns else ():
        count = sum(entry is not None and not is_out for entry, is_out in _entries(path, takedowns))
        if count:
            problems.append(f"{path}: {count} media that were taken down are there: `tamis takedown {store.root}`")
    return problems


# media ----------------------------------------------------------------------------------------------------------------


def _parts(store: Store, table: str) -> list[Path]:
    return sorted(store.table(table).glob("[0-9]*.parquet"))


def _entries(path: Path, takedowns: Takedowns) -> Iterator[tuple[str | None, bool]]:
    """Of each row of a part of media: the entry that means it, and whether it is out already."""
    open_part(path)  # a file that is none says so
    for row in read_part(path, LOOKED_AT).to_pylist():
        yield takedowns.entry_for(row), _is_out(row)


def _media(store: Store, takedowns: Takedowns, before: Collection[str], done: TakenDown) -> None:
    """Take the media out of all their parts. before: those that earlier take-downs have dealt with."""
    for path in _parts(store, "media"):
        rows = list(_entries(path, takedowns))
        uids = read_part(path, ["media_uid"]).column(0).to_pylist()
        out = {i: entry for i, (entry, is_out) in enumerate(rows) if entry is not None and not is_out}
        # by a digest alone, a row that is out already no longer says what it was meant by
        meant = {uids[i]: entry or "" for i, (entry, is_out) in enumerate(rows) if entry is not None or is_out}
        done.media |= {uid: entry for uid, entry in meant.items() if uid not in before}
        if not out:
            continue
        part = open_part(path)
        if not any(find_part(path.parent, part.index, key(part)) for key in (retry_key, refresh_key, takedown_key)):
            key = takedown_key(part)
            footer = {"index": part.index, "key": key, "identity": digest("takedown", part.identity, sorted(out))}
            with publishing(part_path(path.parent, part.index, key)) as temporary:
                _write(temporary, path, out, footer)
        _in_place(path, part, out)
        done.parts.append(store.relative(path))


def _in_place(path: Path, part: Part, out: Mapping[int, str]) -> None:
    """The part without the content of some rows, under its name, key and identity."""
    footer = {"index": part.index, "key": part.key, "identity": part.identity}
    with replacing(path) as temporary:
        _write(temporary, path, out, footer)


def _write(target: Path, path: Path, out: Mapping[int, str], footer: dict[str, Any]) -> None:
    """A copy of a part of media or segments whose rows `out` (position -> entry) have no content."""
    counts = read_part(path, ["status", "reason"]).to_pylist()
    for i in out:
        counts[i] = {"status": "refused", "reason": Reason.POLICY_TAKEDOWN.value}
    stats = dict(open_part(path).stats) | {
        "status": dict(Counter(row["status"] for row in counts)),
        "reasons": dict(Counter(row["reason"] for row in counts if row["reason"])),
    }
    schema = pq.read_schema(path).remove_metadata()

    def batches() -> Iterator[pa.RecordBatch]:
        at = 0
        for group in read_groups(path):
            here = {i - at: entry for i, entry in out.items() if at <= i < at + group.num_rows}
            at += group.num_rows
            made = _emptied(group, here) if here else group
            yield made.replace_schema_metadata(None).combine_chunks().to_batches()[0]

    plain = [name for name in ("bytes", "frame") if name in schema.names]
    write_parquet(target, pa.RecordBatchReader.from_batches(schema, batches()), {**footer, "stats": stats}, plain)


def _emptied(rows: pa.Table, out: Mapping[int, str]) -> pa.Table:
    """`rows` with nothing in those of `out` but which medium it was and why it is gone."""
    kept = pa.array([None if i in out else i for i in range(rows.num_rows)], pa.int64())
    said = {i: taken(dict.fromkeys(rows.column_names), entry) for i, entry in out.items()}
    columns = []
    for field_ in rows.schema:
        column = rows.column(field_.name)
        if field_.name in ("status", "reason", "detail"):
            values = column.to_pylist()
            column = pa.array(
                [said[i][field_.name] if i in said else value for i, value in enumerate(values)], field_.type
            )
        elif field_.name not in KEPT:
            column = column.take(kept)
        columns.append(column)
    return pa.table(columns, schema=rows.schema)


# what was made of them ------------------------------------------------------------------------------------------------


def _segments(store: Store, takedowns: Takedowns, before: Collection[str], done: TakenDown) -> None:
    """Empty the segments cut from the media, those that show one of them, and those with bytes that were taken down;
    they count as taken down, too. before: as of `_media`."""
    columns = ["media_uid", "source_uid", "picture_uid", "sha256", "reason"]
    for path in _parts(store, SEGMENTS_TABLE):
        rows = read_part(path, columns).to_pylist()
        meant = {i: _entry_of_segment(row, takedowns, done) for i, row in enumerate(rows)}
        out = {i: entry for i, entry in meant.items() if entry is not None and not _is_out(rows[i])}
        # one that is out already no longer says what it was meant by, or is all that there is of a source
        was_out = {i for i, row in enumerate(rows) if _is_out(row) and row["source_uid"] not in before}
        found = {rows[i]["media_uid"]: meant[i] or "" for i in sorted(was_out.union(out))}
        done.media |= {uid: entry for uid, entry in found.items() if uid not in before}
        if out:
            _in_place(path, open_part(path), out)
            done.parts.append(store.relative(path))


def _entry_of_segment(row: Mapping[str, Any], takedowns: Takedowns, done: TakenDown) -> str | None:
    if row["sha256"] in takedowns.hashes:
        return str(row["sha256"])
    return done.media.get(row["source_uid"], done.media.get(row["picture_uid"]))


def _is_out(row: Mapping[str, Any]) -> bool:
    return bool(row["reason"] == Reason.POLICY_TAKEDOWN.value)


def _derived(store: Store, done: TakenDown) -> None:
    """Delete the parts of signals, vectors and places of bytes that were made of the media."""
    meant = pa.array(done.media, pa.string())
    folders = [path for path in (store.root / "tables").iterdir() if path.is_dir()]
    for folder in sorted(folders):
        if folder.name in (*BASE, *NO_CONTENT):
            continue
        for path in sorted(folder.glob("[0-9]*.parquet")):
            column = next((name for name in pq.read_schema(path).names if name in UIDS), None)
            if column is None:
                continue
            uids = read_part(path, [column]).column(0)
            if pc.any(pc.is_in(uids, value_set=meant)).as_py():
                path.unlink()
                done.parts.append(store.relative(path))


def _set_state(store: Store) -> None:
    """As it is after a download: what is scored and decided from here on is the next run's."""
    state = store.state()
    files = [_newest(path) for path in store.files(state, "sources" if "sources" in state.tables else "media")]
    state.tables = {"media": [store.relative(path) for path in files]} if files else {}
    state.signals, state.signal_keys, state.selection = {}, {}, None
    store.save_state(state)


def _newest(path: Path) -> Path:
    """The part that takes the place of one of media."""
    while True:
        part = open_part(path)
        after = find_part(path.parent, part.index, takedown_key(part))
        if after is None:
            return path
        path = after.path


def _models(store: Store, versions: Mapping[str, str | None]) -> list[str]:
    """Training runs that name one of these versions in what they were made from."""
    found = []
    for path in sorted((store.root / "models").glob("*/data.json")):
        text = path.read_text(encoding="utf-8")
        if any(name in text for name in versions):
            found.append(path.parent.name)
    return found


def _records(store: Store) -> list[Path]:
    return sorted((store.root / FOLDER).glob("[0-9]*.json"))


def _recorded(store: Store) -> set[str]:
    """The media that earlier take-downs have dealt with to the end."""
    return {uid for path in _records(store) for uid in json.loads(path.read_text(encoding="utf-8"))["media"]}


def _record(store: Store, done: TakenDown) -> None:
    """What was done, for whoever has to show it: takedown/000001.json ..."""
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "media": done.media,
        "parts": done.parts,
        "versions": done.versions,
        "shards": done.shards,
        "models": done.models,
    }
    path = store.root / FOLDER / f"{len(_records(store)) + 1:06d}.json"
    replace_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
