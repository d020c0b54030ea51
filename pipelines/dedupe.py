"""Dedupe: which media are copies of each other. Groups are facts; which member stays is the policy's decision.

A group is a connected component of pairs that are equal or near; the pair that joined each member is kept, so
`tamis why` can say near-duplicate of what, and how near.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.components import connected_components
from curation.near_duplicates import KINDS, near_duplicates, thumbnail_array
from curation.signals.perceptual_hash import THUMBNAIL_PX
from curation.step import digest
from curation.table import find_part, open_part, write_part
from pipelines import database
from pipelines.stage import Run
from pipelines.views import DUPLICATE_EDGES, DUPLICATES, open_store

VERSION = 1
"""Of the rules in this file and in curation/near_duplicates.py that decide groups."""
PERCEPTUAL = ("phash", "phash_mirror", "phash_crops", "thumbnail")
THUMBNAIL_BYTES = THUMBNAIL_PX * THUMBNAIL_PX * 3


def dedupe_key(run: Run) -> str:
    """Digest of the settings and of the columns' parts that they read."""
    names = {*run.recipe.duplicates.exact, *(PERCEPTUAL if run.recipe.duplicates.perceptual else ())}
    signals = [each for each in run.recipe.signals_until(run.round_index) if each.level == "media"]
    tables = ["media", *(f"signal_{each.table_name()}" for each in signals if names & set(each.writes().names))]
    identities = {table: [open_part(path).identity for path in run.store.files(run.state, table)] for table in tables}
    return digest("dedupe", VERSION, run.recipe.duplicates.of_media(), identities)


def dedupe(run: Run) -> dict[str, Any]:
    """Find the duplicate groups of the whole pool; reused where settings and hashes are the same."""
    key = dedupe_key(run)
    groups = find_part(run.store.table("duplicates"), 0, key)
    edges = find_part(run.store.table("duplicate_edges"), 0, key)
    reused = groups is not None and edges is not None
    if groups is None or edges is None:
        group_rows, edge_rows = find_duplicates(run)
        edges = write_part(run.store.table("duplicate_edges"), 0, key, edge_rows)
        members = [group for group in group_rows.column("duplicate_group").to_pylist() if group is not None]
        stats = {"media": group_rows.num_rows, "in_groups": len(members), "groups": len(set(members))}
        groups = write_part(run.store.table("duplicates"), 0, key, group_rows, stats=stats)
    run.state.tables["duplicates"] = [run.store.relative(groups.path)]
    run.state.tables["duplicate_edges"] = [run.store.relative(edges.path)]
    return {**groups.stats, "parts_run": int(not reused), "parts_reused": int(reused)}


def find_duplicates(run: Run) -> tuple[pa.Table, pa.Table]:
    """The group of every medium with bytes (null where alone), and the pairs that joined them."""
    settings = run.recipe.duplicates
    con = open_store(run.store, run.state)
    levels = sorted(table for table, level in run.state.signals.items() if level == "media")
    joins = "".join(f" left join {database.quoted(t)} using (media_uid)" for t in levels)
    columns = "".join(f", {database.quoted(t)}.* exclude (media_uid, reason)" for t in levels)
    con.execute(f"create view media_signals as select m.media_uid{columns} from media m{joins}")
    con.sql(database.query("dedupe/media")).create("found")
    edges = []
    for name in settings.exact:
        con.execute(f"create or replace view valued as select media_uid, {database.quoted(name)} as value from found")
        edges.append(database.arrow(con, database.query("dedupe/exact"), {"kind": name}))
    wanted = ", ".join(("media_uid", *PERCEPTUAL)) if settings.perceptual else "media_uid"
    found = database.arrow(con, f"select {wanted} from found order by media_uid")
    con.close()
    uids = found.column("media_uid").to_pylist()
    if settings.perceptual:
        edges.append(_near(found, uids, settings.radius))
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
    return pa.table({"media_uid": uids, "duplicate_group": group}, schema=DUPLICATES), joined


def _near(found: pa.Table, uids: list[str], radius: int) -> pa.Table:
    """Verified near-duplicates; pictures of one colour have no hash and are compared by nothing but equality."""
    hashed = np.flatnonzero(pc.is_valid(found.column("phash")).to_numpy(zero_copy_only=False))
    if len(hashed) < 2:
        return DUPLICATE_EDGES.empty_table()
    rows = found.take(pa.array(hashed))
    crops = rows.column("phash_crops").combine_chunks()
    pairs = near_duplicates(
        rows.column("phash").to_numpy(),
        rows.column("phash_mirror").to_numpy(),
        np.asarray(crops.flatten().to_numpy(zero_copy_only=False), dtype=np.uint64).reshape(len(hashed), -1),
        thumbnail_array(rows.column("thumbnail").cast(pa.binary(THUMBNAIL_BYTES))),
        radius,
    )
    return pa.table(
        {
            "media_uid": [uids[i] for i in hashed[pairs.i]],
            "other_uid": [uids[i] for i in hashed[pairs.j]],
            "kind": [f"picture ({KINDS[kind]})" for kind in pairs.kind],
            "distance": pa.array(pairs.distance.astype(np.int32)),
        },
        schema=DUPLICATE_EDGES,
    )
