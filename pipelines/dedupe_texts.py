"""Near-duplicate texts of the whole pool: groups of them, and the pairs that joined each group.

Groups are connected components of pairs that were verified exactly; which text stays is the policy's decision
(`dedupe: name` with `of: texts`). The search reads texts alone, never media, and runs in this process: about 3 us of
CPU and 300 bytes a caption.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.components import connected_components
from curation.duplicate_search import TextSearch
from curation.minhash import near_duplicate_texts
from curation.shingles import first_of_equal, normal_form, shingle_sets
from curation.step import digest
from curation.table import find_part, open_part, write_part
from pipelines import database
from pipelines.stage import Run
from pipelines.views import TEXT_DUPLICATE_EDGES, TEXT_DUPLICATES, open_store

VERSION = 1
"""Of the rules in this file, curation/shingles.py and curation/minhash.py that decide groups."""
SAME, ALIKE = "text (same)", "text (shingles)"
TABLES = ("text_duplicates", "text_duplicate_edges")


def texts_key(run: Run, settings: TextSearch) -> str:
    """Digest of the settings and of the parts that hold the column."""
    signals = run.recipe.signals_until(run.round_index)
    tables = [f"signal_{each.table_name()}" for each in signals if settings.column in each.writes().names]
    identities = {table: [open_part(path).identity for path in run.store.files(run.state, table)] for table in tables}
    identities["texts"] = [each.texts.identity for each in run.store.samples(run.state)]
    return digest("dedupe_texts", VERSION, settings, identities)


def dedupe_texts(run: Run, settings: TextSearch) -> dict[str, Any]:
    """Find the groups of near-duplicate texts; reused where settings and texts are the same."""
    key = texts_key(run, settings)
    parts = [find_part(run.store.table(table), 0, key) for table in TABLES]
    reused = all(part is not None for part in parts)
    if not reused:
        con = open_store(run.store, run.state)
        rows = _texts(con, settings.column)
        con.close()
        groups, edges = find_text_duplicates(rows, settings)
        stats = {"texts": rows.num_rows, "in_groups": groups.num_rows,
                 "groups": len(pc.unique(groups.column("text_duplicate_group")))}  # fmt: skip
        parts = [
            write_part(run.store.table(table), 0, key, made, stats=stats)
            for table, made in zip(TABLES, (groups, edges), strict=True)
        ]
    for table, part in zip(TABLES, parts, strict=True):
        assert part is not None
        run.state.tables[table] = [run.store.relative(part.path)]
    assert parts[0] is not None
    counts = {f"text_{name}": parts[0].stats[name] for name in ("in_groups", "groups")}
    return {**counts, "parts_run": int(not reused), "parts_reused": int(reused)}


def _texts(con: database.Connection, column: str) -> pa.Table:
    """text_uid and text of all texts that are not null, by uid, so that numbers stand for the same texts everywhere."""
    name = database.quoted(column)
    providers = database.rows(
        con,
        "select table_name from duckdb_columns() where column_name = $column and table_name in "
        "(select table_name from duckdb_columns() where column_name = 'text_uid') and table_name <> 'candidates'",
        {"column": column},
    )
    table = next((str(row["table_name"]) for row in providers if row["table_name"] == "texts"), None)
    table = table or str(providers[0]["table_name"])
    return database.arrow(
        con,
        f"select text_uid, {name} as text from {database.quoted(table)} where {name} is not null order by text_uid",
    )


def find_text_duplicates(rows: pa.Table, settings: TextSearch) -> tuple[pa.Table, pa.Table]:
    """Groups and edges among `rows` (text_uid rising, text). Only texts in groups are named."""
    normal = normal_form(rows.column("text"))
    if settings.min_words > 1:
        num_words = pc.add(pc.count_substring(normal, " "), 1)
        normal = pc.if_else(pc.fill_null(pc.greater_equal(num_words, settings.min_words), False), normal, None)
    same = first_of_equal(normal)
    sets = shingle_sets(normal, settings.words, settings.characters)
    pairs = near_duplicate_texts(sets, same, settings.similarity, settings.recall)
    uids = rows.column("text_uid").combine_chunks()
    edges = pa.table(
        {
            "text_uid": uids.take(pa.array(pairs.i)),
            "other_uid": uids.take(pa.array(pairs.j)),
            "kind": pc.if_else(pa.array(same[pairs.j] == same[pairs.i]), SAME, ALIKE),
            "similarity": pa.array(pairs.similarity),
        }
    ).cast(TEXT_DUPLICATE_EDGES)
    labels = connected_components(len(uids), pairs.i, pairs.j)
    members = np.flatnonzero(np.bincount(labels, minlength=len(uids))[labels] > 1) if len(uids) else labels
    # labels are the smallest member and uids rise: a group is named after its smallest text_uid
    groups = pa.table({"text_uid": uids.take(pa.array(members)),
                       "text_duplicate_group": uids.take(pa.array(labels[members]))})  # fmt: skip
    return groups.cast(TEXT_DUPLICATES), edges
