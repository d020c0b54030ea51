"""Dedupe: which media are copies of each other. Groups are facts; which member stays is the policy's decision.

A group is a connected component of pairs that are equal or near; the pair that joined each member is kept, so
`tamis why` can say near-duplicate of what, and how near. Near pairs of looks are kept from run to run
(`pipelines.near_pairs`); pairs of media and groups follow from them, from what the media share and from their captions
in a few queries, which are done anew whenever the pool has changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curation.components import connected_components
from curation.step import digest
from curation.table import find_part, open_part, write_part
from curation.thumbnail_match import KINDS
from pipelines import database
from pipelines.dedupe_segments import COLUMNS as FINGERPRINTS
from pipelines.dedupe_segments import VERSION as SEGMENTS_VERSION
from pipelines.dedupe_segments import find_matches
from pipelines.looks import COLUMNS
from pipelines.near_job import NEAR_PAIRS
from pipelines.near_pairs import VERSION as NEAR_VERSION
from pipelines.near_pairs import crowd_groups, near_pairs
from pipelines.stage import Run
from pipelines.views import DUPLICATE_EDGES, DUPLICATES, SEGMENT_MATCHES, open_store

VERSION = 3
"""Of the rules in this file and in sql/dedupe/ that decide groups; those about pairs of looks have their own."""
BOILERPLATE = "is_boilerplate"
"""Column of texts that say nothing about their picture, where the recipe has it."""

NO_FLAGS = f"null::varchar as text_uid, false as {BOILERPLATE} where false"


def dedupe_key(run: Run) -> str:
    """Digest of the settings and of the parts that they read: columns of media, and captions for near-duplicates."""
    perceptual = run.recipe.duplicates.perceptual
    names = {*run.recipe.duplicates.exact, *((*COLUMNS, BOILERPLATE) if perceptual else ())}
    names |= set(FINGERPRINTS) if run.recipe.duplicates.segments is not None else set()
    signals = [each for each in run.recipe.signals_until(run.round_index) if names & set(each.writes().names)]
    tables = ["media", *(f"signal_{each.table_name()}" for each in signals)]
    identities = {table: [open_part(path).identity for path in run.store.files(run.state, table)] for table in tables}
    if perceptual:
        identities["texts"] = [each.texts.identity for each in run.store.samples(run.state)]
    of_segments = () if run.recipe.duplicates.segments is None else (SEGMENTS_VERSION,)
    return digest("dedupe", VERSION, NEAR_VERSION, run.recipe.duplicates.of_media(), identities, *of_segments)


def dedupe(run: Run) -> dict[str, Any]:
    """Find the duplicate groups of the whole pool; reused where settings and hashes are the same."""
    key = dedupe_key(run)
    groups = find_part(run.store.table("duplicates"), 0, key)
    edges = find_part(run.store.table("duplicate_edges"), 0, key)
    matches = find_part(run.store.table("segment_matches"), 0, key)
    has_segments = run.recipe.duplicates.segments is not None
    reused = groups is not None and edges is not None and (matches is not None or not has_segments)
    counts: dict[str, Any] = {}
    run.state.tables.pop("segment_matches", None)
    if groups is None or edges is None or not reused:
        group_rows, edge_rows, match_rows, counts = find_duplicates(run)
        edges = write_part(run.store.table("duplicate_edges"), 0, key, edge_rows)
        if has_segments:
            matches = write_part(run.store.table("segment_matches"), 0, key, match_rows)
        members = [group for group in group_rows.column("duplicate_group").to_pylist() if group is not None]
        stats = {"media": group_rows.num_rows, "in_groups": len(members), "groups": len(set(members))}
        groups = write_part(run.store.table("duplicates"), 0, key, group_rows, stats=stats)
    run.state.tables["duplicates"] = [run.store.relative(groups.path)]
    run.state.tables["duplicate_edges"] = [run.store.relative(edges.path)]
    if matches is not None:
        run.state.tables["segment_matches"] = [run.store.relative(matches.path)]
    return {**groups.stats, **counts, "parts_run": int(not reused), "parts_reused": int(reused)}


def find_duplicates(run: Run) -> tuple[pa.Table, pa.Table, pa.Table, dict[str, Any]]:
    """The group of every medium with bytes (null where alone), the pairs that joined them, what segments have in
    common, and counts."""
    settings = run.recipe.duplicates
    con = open_store(run.store, run.state)
    levels = sorted(table for table, level in run.state.signals.items() if level == "media")
    joins = "".join(f" left join {database.quoted(t)} using (media_uid)" for t in levels)
    columns = "".join(f", {database.quoted(t)}.* exclude (media_uid, reason)" for t in levels)
    con.execute(f"create view media_signals as select m.media_uid{columns} from media m{joins}")
    con.sql(database.query("dedupe/media")).create_view("found")
    edges: list[pa.Table] = []
    counts: dict[str, Any] = {}
    for name in settings.exact:
        edges.append(_equal(con, name, name))
    if settings.perceptual:
        edges.append(_equal(con, "look", f"picture ({KINDS[0]})"))
        near, counts = _near(run, con)
        edges.append(near)
    matches = SEGMENT_MATCHES.empty_table()
    if settings.segments is not None:
        signals = run.recipe.signals_until(run.round_index)
        (prints,) = [each.table_name() for each in signals if set(FINGERPRINTS) <= set(each.writes().names)]
        files = run.store.files(run.state, f"signal_{prints}")
        joining, matches = find_matches(run, con, files, settings.segments)
        edges.append(joining)
        counts |= {"segment_matches": matches.num_rows}
    uids = database.arrow(con, "select media_uid from found order by media_uid").column(0).to_pylist()
    con.close()
    joined = (
        pa.concat_tables([each.cast(DUPLICATE_EDGES) for each in edges]) if edges else DUPLICATE_EDGES.empty_table()
    )
    joined = joined.sort_by([(name, "ascending") for name in DUPLICATE_EDGES.names])
    place = {uid: i for i, uid in enumerate(uids)}
    ends = [
        np.array([place[uid] for uid in joined.column(n).to_pylist()], dtype=np.int64)
        for n in ("media_uid", "other_uid")
    ]
    labels = connected_components(len(uids), *ends)
    sizes = np.bincount(labels, minlength=len(uids)) if uids else np.zeros(0, dtype=np.int64)
    # labels are the smallest member, and media_uids are sorted, so a group is named after its smallest media_uid
    group = [uids[label] if sizes[label] > 1 else None for label in labels]
    return pa.table({"media_uid": uids, "duplicate_group": group}, schema=DUPLICATES), joined, matches, counts


def _equal(con: database.Connection, column: str, kind: str) -> pa.Table:
    """Media that share a value of a column."""
    con.execute(f"create or replace view valued as select media_uid, {database.quoted(column)} as value from found")
    return database.arrow(con, database.query("dedupe/exact"), {"kind": kind})


def _near(run: Run, con: database.Connection) -> tuple[pa.Table, dict[str, Any]]:
    """Media that are near-duplicates; pictures of one colour have no hash and are compared by equality only."""
    signals = run.recipe.signals_until(run.round_index)
    (table,) = [each.table_name() for each in signals if set(COLUMNS) <= set(each.writes().names)]
    result = near_pairs(run, run.store.files(run.state, f"signal_{table}"))
    con.execute("create table looks as select media_uid, look, phash from found where look is not null")
    database.create_view(con, "pairs_found", result.pairs, NEAR_PAIRS)
    database.create_view(con, "crowd_found", result.crowd_pairs, NEAR_PAIRS)
    con.register("crowd_groups", crowd_groups(result.crowd_pairs))
    con.register("crowds", pa.table({"phash": pa.array(result.crowds, pa.uint64())}))
    con.sql(database.query("dedupe/near_looks"), params={"kinds": list(KINDS)}).create("near_pairs")
    con.sql(database.query("dedupe/unsettled")).create("wanted")
    speaking = [each.table_name() for each in signals if BOILERPLATE in each.writes().names]
    source = f"text_uid, {BOILERPLATE} from {database.quoted(speaking[0])}" if speaking else NO_FLAGS
    con.execute(f"create view caption_flags as select {source}")
    con.sql(database.query("dedupe/captions")).create("captions")
    return database.arrow(con, database.query("dedupe/near")), result.counts
