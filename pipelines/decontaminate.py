"""Decontaminate: which media and texts of the pool evaluation sets hold, part by part, for the policy's rules.

A part of the pool is compared with the sets alone, so the work is spread over the workers, and new links cost only
their own parts. `evaluation_matches` names for each row that matches the item that it is most like.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.contamination import kind_name, picture_matches, text_matches, vector_matches
from curation.policy import Decontaminate
from curation.scorers import embedding_matrix
from curation.shingles import normal_form, shingle_sets
from curation.signal import Level, Signal
from curation.signals.perceptual_hash import PerceptualHash
from curation.step import digest
from curation.table import Part, find_part, open_part, read_part, write_part
from curation.thumbnail_match import thumbnail_array
from pipelines.evaluation_sets import EvaluationSet, open_set
from pipelines.looks import COLUMNS, hashes_of
from pipelines.part_rows import UID
from pipelines.recipe import Recipe
from pipelines.stage import Run, Wanted, run_parts
from pipelines.store import State, Store
from pipelines.views import EVALUATION_MATCHES
from pipelines.workers import Task
from pipelines.yaml_place import RecipeError

VERSION = 1
"""Of the rules in this file and in curation/contamination.py that decide matches."""
TABLES = ("evaluation_matches",)
ITEM_CHARS = 300


def rules_of(run: Run) -> list[Decontaminate]:
    """The rules of this round that reject what evaluation sets hold."""
    return [item for item in run.round.policy if isinstance(item, Decontaminate)]


def check_sets(recipe: Recipe, store: Store) -> None:
    """Raises RecipeError where a rule names a set that the store lacks, or that other signals describe."""
    for index, each in enumerate(recipe.all_rounds()):
        signals = recipe.signals_until(index)
        for rule in each.policy:
            if isinstance(rule, Decontaminate):
                for name in rule.against:
                    _check_set(rule, open_set(store, name), signals)


def _check_set(rule: Decontaminate, found: EvaluationSet, signals: list[Signal]) -> None:
    wanted: list[Signal] = [s for s in signals if rule.radius is not None and isinstance(s, PerceptualHash)]
    if rule.similarity is not None:
        wanted += [s for s in signals if rule.embedding in s.writes().names]
    for signal in wanted:
        table = signal.table_name()
        if str(getattr(signal, "model", "")).startswith("run:"):
            raise RecipeError(
                f"{rule.name}: {rule.embedding} is of a model that the recipe trains; evaluation sets need one that is "
                "there beforehand"
            )
        if found.manifest["signals"].get(table) != signal.key():
            why = "by another version of it" if table in found.manifest["signals"] else "without it"
            raise RecipeError(
                f"{rule.name}: evaluation set {found.name} was registered {why} ({table}); register it again with "
                "`tamis evalset add ... --replace --recipe RECIPE`"
            )


def decontaminate(run: Run) -> dict[str, Any]:
    """Compare every part of the pool with the sets of the policy's rules."""
    wanted = _wanted(run)
    parts, stats = run_parts(run, "dedupe, evaluation sets", wanted)
    run.state.tables["evaluation_matches"] = [run.store.relative(part.path) for part in parts]
    counts = {name: stats[name] for name in ("parts_run", "parts_reused")}
    return {"evaluation_matches": sum(part.num_rows for part in parts), **counts}


def found_matches(run: Run) -> dict[str, list[Part]] | None:
    """The parts of the table, where all are there."""
    parts = [find_part(each.folder, each.index, each.key) for each in _wanted(run)]
    there = [part for part in parts if part is not None]
    return {"evaluation_matches": there} if len(there) == len(parts) else None


def _wanted(run: Run) -> list[Wanted]:
    rules = rules_of(run)
    sets = {name: open_set(run.store, name) for rule in rules for name in rule.against}
    columns = {"pixel_hash", *COLUMNS} | {rule.embedding for rule in rules if rule.similarity is not None}
    tables = tables_with(run.store, run.state, columns)
    folder = run.store.table("evaluation_matches")
    wanted = []
    for position, each in enumerate(run.store.samples(run.state)):
        files = {table: run.store.files(run.state, f"signal_{table}")[position] for table in sorted(tables)}
        files["media"] = run.store.files(run.state, "media")[position]
        identities = {table: open_part(path).identity for table, path in files.items()}
        identities["texts"] = each.texts.identity
        key = digest("decontaminate", VERSION, rules, {name: one.digest for name, one in sets.items()}, identities)
        arguments = {"rules": rules, "sets": sets, "files": files, "texts": each.texts.path, "levels": tables,
                     "folder": folder, "index": each.index, "key": key}  # fmt: skip
        task = Task(f"evaluation sets and part {each.index}", match_part, arguments)
        wanted.append(Wanted(folder, each.index, key, task))
    return wanted


def tables_with(store: Store, state: State, columns: Collection[str]) -> dict[str, Level]:
    """Signal table -> level, of those in the store that have any of these columns."""
    found: dict[str, Level] = {}
    for table, level in sorted(state.signals.items()):
        files = store.files(state, f"signal_{table}")
        if files and set(columns) & set(pq.read_schema(files[0]).names):
            found[table] = "media" if level == "media" else "text"
    return found


def match_part(
    rules: list[Decontaminate],
    sets: Mapping[str, EvaluationSet],
    files: Mapping[str, Path],
    texts: Path,
    levels: Mapping[str, str],
    folder: Path,
    index: int,
    key: str,
) -> dict[str, Any]:
    """Compare one part with all sets of all rules, and publish what matches. Runs in a worker."""
    media = read_part(files["media"], ["media_uid", "sha256", "status"])
    for table, level in levels.items():
        if level == "media":
            made = read_part(files[table])
            for name in made.column_names:
                if name not in (*media.column_names, "reason"):
                    media = media.append_column(name, made.column(name))
    media = media.filter(pc.equal(media.column("status"), "ok"))
    captions = read_part(texts, ["text_uid", "text"])
    for table, level in levels.items():
        if level == "text":
            made = read_part(files[table])
            for name in made.column_names:
                if name not in (*captions.column_names, "reason"):
                    captions = captions.append_column(name, made.column(name))
    found = [EVALUATION_MATCHES.empty_table()]
    for rule in rules:
        for name in rule.against:
            one = sets[name]
            exact = [column for column in ("sha256", "pixel_hash") if column in media.column_names]
            found += [_equal(rule, one, media, column) for column in exact]
            if rule.radius is not None:
                found.append(_near(rule, one, media))
            if rule.jaccard is not None:
                found.append(_alike(rule, one, captions))
            if rule.similarity is not None:
                level = "media" if rule.embedding in media.column_names else "text"
                found.append(_embedded(rule, one, media if level == "media" else captions, level))
    part = write_part(folder, index, key, pa.concat_tables(found))
    return {"rows": media.num_rows + captions.num_rows, "matches": part.num_rows}


@lru_cache(maxsize=16)
def _pictures(folder: Path, file: str) -> pa.Table:
    return read_part(folder / file)


def _rows(
    rule: Decontaminate,
    one: EvaluationSet,
    level: str,
    uids: pa.ChunkedArray,
    items: list[str],
    kinds: list[str],
    **measures: pa.Array,
) -> pa.Table:
    """Matches in the table's form."""
    num = len(items)
    columns = {name: measures.get(name, pa.nulls(num, field.type)) for name, field in
               ((name, EVALUATION_MATCHES.field(name)) for name in ("distance", "similarity"))}  # fmt: skip
    return pa.table(
        {"rule": [rule.name] * num, "level": [level] * num, "uid": uids, "evaluation_set": [one.name] * num,
         "item": pa.array([item[:ITEM_CHARS] for item in items], pa.string()), "kind": pa.array(kinds, pa.string()),
         **columns}
    ).cast(EVALUATION_MATCHES)  # fmt: skip


def _equal(rule: Decontaminate, one: EvaluationSet, media: pa.Table, column: str) -> pa.Table:
    """Media with the same bytes, or the same pixels."""
    items = _pictures(one.folder, one.manifest["pictures"])
    place = pc.index_in(media.column(column), items.column(column).combine_chunks(), skip_nulls=True)
    rows = media.filter(pc.is_valid(place))
    names = items.column("item").take(place.drop_null()).to_pylist()
    distance = pa.array([0] * len(names), pa.int32())
    return _rows(rule, one, "media", rows.column("media_uid"), names, [column] * len(names), distance=distance)


def _near(rule: Decontaminate, one: EvaluationSet, media: pa.Table) -> pa.Table:
    """Near-duplicate pictures."""
    items = _pictures(one.folder, one.manifest["pictures"])
    sides = []
    for table in (media, items):
        hashed = table.filter(pc.is_valid(table.column("look")))
        pixels = thumbnail_array(hashed.column("thumbnail"))
        sides.append((hashed, hashes_of(hashed), pixels))
    (pool, pool_hashes, pool_pixels), (known, known_hashes, known_pixels) = sides
    matches = picture_matches(
        pool_hashes, lambda rows: pool_pixels[rows], known_hashes, lambda rows: known_pixels[rows], rule.radius or 0
    )
    names = known.column("item").take(pa.array(matches.item)).to_pylist()
    uids = pool.column("media_uid").take(pa.array(matches.row))
    kinds = [kind_name(kind) for kind in matches.kind.tolist()]
    return _rows(rule, one, "media", uids, names, kinds, distance=pa.array(matches.measure.astype(np.int32)))


def _alike(rule: Decontaminate, one: EvaluationSet, captions: pa.Table) -> pa.Table:
    """Texts whose shingle sets are alike; an item is named by the text itself."""
    items = _pictures(one.folder, one.manifest["texts"])
    normal = items.column("normal").cast(pa.large_string()).combine_chunks()
    num_words = pc.add(pc.count_substring(normal, " "), 1)
    long_enough = pc.greater_equal(num_words, rule.min_words)
    items, normal = items.filter(long_enough), normal.filter(long_enough)
    pool = shingle_sets(normal_form(captions.column("text")))
    matches = text_matches(pool, shingle_sets(normal), rule.jaccard or 0)
    names = items.column("text").take(pa.array(matches.item)).to_pylist()
    uids = captions.column("text_uid").take(pa.array(matches.row))
    kinds = ["text"] * len(names)
    return _rows(rule, one, "text", uids, names, kinds, similarity=pa.array(matches.measure))


def _embedded(rule: Decontaminate, one: EvaluationSet, rows: pa.Table, level: str) -> pa.Table:
    """Embeddings that are alike."""
    items = _pictures(one.folder, one.manifest["pictures" if level == "media" else "texts"])
    vectors, present = embedding_matrix(rows.column(rule.embedding))
    known, is_known = embedding_matrix(items.column(rule.embedding))
    rows, items = rows.filter(pa.array(present)), items.filter(pa.array(is_known))
    if rows.num_rows == 0 or items.num_rows == 0:
        return EVALUATION_MATCHES.empty_table()
    matches = vector_matches(vectors[present], known[is_known], rule.similarity or 0)
    names = items.column("item" if level == "media" else "text").take(pa.array(matches.item)).to_pylist()
    uids = rows.column(UID[level]).take(pa.array(matches.row))
    return _rows(rule, one, level, uids, names, ["embedding"] * len(names), similarity=pa.array(matches.measure))
