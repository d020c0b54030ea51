"""Near-duplicate texts of the whole pool: groups of them, and the pairs that joined each group.

Groups are connected components of pairs that were verified exactly; which text stays is the policy's decision
(`dedupe: name` with `of: texts`). The search reads texts alone, never media: once for each part its normal forms and
band keys, then pairs, which are kept as the pool grows (`pipelines.generations`), in buckets where there are many
(`pipelines.bucket_search`). Of the pairs within a group only some are compared: which ones stand for a group depends on
how the pool grew, the groups do not.

Measured on one core: 200,000 captions take 1.5 CPU seconds, 10,000 more 0.8 (most of it reading the keys of the old
ones), all of them in buckets 7.8; 180 bytes a caption on disk for normal forms and keys, 950 more for buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.components import connected_components
from curation.duplicate_search import TextSearch
from curation.step import digest
from curation.table import Part, find_part, open_part, write_part
from pipelines import database
from pipelines.generations import NAME_DIGITS, grow
from pipelines.stage import Run, Wanted, run_parts
from pipelines.text_job import FORMS, TEXT_PAIRS, TextJob, bands_of, forms_part
from pipelines.views import TEXT_DUPLICATE_EDGES, TEXT_DUPLICATES
from pipelines.workers import Task

VERSION = 2
"""Of the rules in this file, pipelines/text_job.py, curation/shingles.py and curation/minhash.py that decide groups."""
SAME, ALIKE = "text (same)", "text (shingles)"
TABLES = ("text_duplicates", "text_duplicate_edges")
FORM_TABLE, PAIR_TABLE = "text_forms", "text_pairs"
BUCKET_ENTRIES = 1 << 23
"""Texts of a search in one task, or entries of a bucket: about 3 GB of captions."""
GROUP_PARTS = 250
"""Parts that are bucketed into one file: of 1,000 texts each, 4 million entries, 1 GB."""


def texts_key(run: Run, settings: TextSearch) -> str:
    """Digest of the settings and of the parts that hold the column."""
    return digest("dedupe_texts", VERSION, settings, [open_part(path).identity for path in _files(run, settings)])


def _files(run: Run, settings: TextSearch) -> list[Path]:
    """The parts that hold the column: those of a signal, or of the texts themselves."""
    for signal in run.recipe.signals_until(run.round_index):
        if settings.column in signal.writes().names:
            return run.store.files(run.state, f"signal_{signal.table_name()}")
    return run.store.texts_files()


def dedupe_texts(run: Run, settings: TextSearch) -> dict[str, Any]:
    """Find the groups of near-duplicate texts; reused where settings and texts are the same."""
    key = texts_key(run, settings)
    parts = [find_part(run.store.table(table), 0, key) for table in TABLES]
    reused = all(part is not None for part in parts)
    found: dict[str, Any] = {}
    if not reused:
        groups, edges, found = find_text_duplicates(run, _files(run, settings), settings)
        stats = {"in_groups": groups.num_rows, "groups": len(pc.unique(groups.column("text_duplicate_group")))}
        parts = [
            write_part(run.store.table(table), 0, key, made, stats=stats)
            for table, made in zip(TABLES, (groups, edges), strict=True)
        ]
    for table, part in zip(TABLES, parts, strict=True):
        assert part is not None
        run.state.tables[table] = [run.store.relative(part.path)]
    assert parts[0] is not None
    counts = {f"text_{name}": value for name, value in {**parts[0].stats, **found}.items()}
    return {**counts, "parts_run": int(not reused), "parts_reused": int(reused)}


def find_text_duplicates(
    run: Run, files: Sequence[Path], settings: TextSearch
) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """Groups and edges among the texts of some parts, and counts. Only texts in groups are named."""
    forms = _forms(run, files, settings)
    job = TextJob(folder=run.store.table(PAIR_TABLE), settings=digest(PAIR_TABLE, VERSION, settings), search=settings)
    grown = grow(run, job, {part.identity[:NAME_DIGITS]: part.path for part in forms}, GROUP_PARTS, BUCKET_ENTRIES)
    con = database.connect()
    database.create_view(con, "forms", [part.path for part in forms], FORMS)
    database.create_view(con, "pairs", grown.pairs, TEXT_PAIRS)
    edges = database.arrow(con, database.query("dedupe/texts"), {"same": SAME, "alike": ALIKE})
    con.close()
    ends = pa.chunked_array([*edges.column("text_uid").chunks, *edges.column("other_uid").chunks], pa.string())
    uids = pc.unique(ends).sort()
    places = pc.index_in(ends, uids).to_numpy()
    labels = connected_components(len(uids), *np.split(places, 2))
    # labels are the smallest member and uids rise: a group is named after its smallest text_uid
    groups = pa.table([uids, uids.take(pa.array(labels))], schema=TEXT_DUPLICATES)
    return groups, edges.cast(TEXT_DUPLICATE_EDGES), grown.counts


def _forms(run: Run, files: Sequence[Path], settings: TextSearch) -> list[Part]:
    """Normal forms and band keys of each part; texts of an old part are never read again."""
    folder = run.store.table(FORM_TABLE)
    asked = (settings.column, settings.words, settings.characters, settings.min_words, bands_of(settings))
    wanted = []
    for index, path in enumerate(files):
        key = digest(FORM_TABLE, VERSION, asked, open_part(path).identity)
        arguments = {"source": path, "settings": settings, "folder": folder, "index": index, "key": key}
        wanted.append(Wanted(folder, index, key, Task(f"normal forms of part {index}", forms_part, arguments)))
    return run_parts(run, "dedupe, normal forms of texts", wanted)[0]
