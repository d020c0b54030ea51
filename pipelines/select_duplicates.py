"""Rules over many rows for `pipelines.select`: who stays of semantic duplicates, and what evaluation sets hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.policy import Decontaminate, Dedupe, PolicyItem
from curation.semantic import Neighbours, survivors
from pipelines import database
from pipelines.row_wise import ordering_without_nan

NEEDS = {"media": ("duplicates",), "texts": ("text_duplicates",), "semantic": ("semantic_edges",)}
"""Tables of searches that a `dedupe` reads."""
GIVES = {
    "media": ("duplicate_group", "duplicate_of"),
    "texts": ("text_duplicate_group", "text_duplicate_of"),
    "semantic": ("semantic_duplicate_of", "semantic_similarity"),
    "evaluation": (
        "evaluation_set", "evaluation_item", "evaluation_match", "evaluation_distance", "evaluation_similarity",
    ),
}  # fmt: skip
"""Columns that a rule adds to `work`, each with the rule's place behind it."""
KINDS = {"duplicate_of": "varchar",
         "text_duplicate_of": "varchar", "semantic_duplicate_of": "varchar", "semantic_similarity": "double",
         "evaluation_set": "varchar", "evaluation_item": "varchar", "evaluation_match": "varchar",
         "evaluation_distance": "integer", "evaluation_similarity": "double"}  # fmt: skip
"""Those that the decisions keep, with their SQL types."""
LOSERS = pa.schema(
    [("uid", pa.string()), ("semantic_duplicate_of", pa.string()), ("semantic_similarity", pa.float64())]
)


def tables_read(item: PolicyItem) -> tuple[str, ...]:
    """Tables of searches that a rule reads."""
    if isinstance(item, Decontaminate):
        return ("evaluation_matches",)
    return NEEDS[item.of] if isinstance(item, Dedupe) else ()


def gives(item: PolicyItem) -> tuple[str, ...]:
    """Columns that a rule of this file adds, besides `pass_<n>`."""
    if isinstance(item, Decontaminate):
        return GIVES["evaluation"]
    return GIVES[item.of] if isinstance(item, Dedupe) else ()


def dedupe_semantic(con: database.Connection, item: Dedupe, n: int, passed: str) -> str:
    """SQL that adds `pass_<n>`, `semantic_duplicate_of_<n>` and `semantic_similarity_<n>` to the rows of `work`."""
    levels = database.rows(con, "select distinct level from semantic_edges")
    uid = "text_uid" if levels and levels[0]["level"] == "text" else "media_uid"
    members = database.arrow(
        con,
        "with ends as (select uid from semantic_edges union select other_uid from semantic_edges), "
        f"ranked as (select {uid} as uid, sample_uid, bool_or({passed}) over (partition by {uid}) as passed, "
        f"row_number() over (order by {ordering_without_nan(item.prefer)}, {uid}) as place from work "
        f"where {uid} in (select uid from ends) "
        f"qualify row_number() over (partition by {uid} order by text_uid) = 1) "
        "select * from ranked order by uid",
    )
    edges = database.arrow(con, "select * from semantic_edges order by uid, other_uid")
    con.register("found_losers", semantic_losers(members, edges, name_samples=uid == "media_uid"))
    con.execute(f"create table semantic_losers_{n} as select * from found_losers")
    con.unregister("found_losers")
    columns = ", ".join(f"l.{name} as {name}_{n}" for name in GIVES["semantic"])
    return (
        f"select w.*, l.uid is null as pass_{n}, {columns} "
        f"from work w left join semantic_losers_{n} l on l.uid = w.{uid}"
    )


def semantic_losers(members: pa.Table, edges: pa.Table, name_samples: bool) -> pa.Table:
    """Those that do not stay (schema `LOSERS`), by the greedy walk of `curation.semantic.survivors`.

    `members`: uid (rising), sample_uid, passed, place; the walk goes by (passed first, place). `edges`: as
    `semantic_edges`; a star of equal vectors has their first uid as `uid`. The survivor is named by its sample, or by
    its own uid.
    """
    uids = members.column("uid").combine_chunks()
    ends = [pc.index_in(edges.column(name), uids).to_numpy() for name in ("uid", "other_uid")]
    known = ~(np.isnan(ends[0].astype(float)) | np.isnan(ends[1].astype(float)))
    i, j = (end[known].astype(np.int64) for end in ends)
    star = pc.ends_with(edges.column("kind"), "(same)").to_numpy()[known]
    same = np.arange(len(uids))
    same[j[star]] = i[star]
    pairs = Neighbours(i[~star], j[~star], edges.column("similarity").to_numpy()[known][~star])
    passed = members.column("passed").to_numpy(zero_copy_only=False)
    order = np.lexsort((members.column("place").to_numpy(), ~passed))
    who, similarity = survivors(order, same, pairs)
    lost = np.flatnonzero(who >= 0)
    names = members.column("sample_uid" if name_samples else "uid").combine_chunks()
    return pa.table(
        {"uid": uids.take(pa.array(lost)), "semantic_duplicate_of": names.take(pa.array(who[lost])),
         "semantic_similarity": similarity[lost]}
    ).cast(LOSERS)  # fmt: skip


def decontaminate(con: database.Connection, item: Decontaminate, n: int) -> str:
    """SQL that adds `pass_<n>` and the match of each rejected row to the rows of `work`."""
    con.sql(database.query("select/contaminated"), params={"rule": item.name}).create(f"contaminated_{n}")
    columns = ", ".join(f"c.{name} as {name}_{n}" for name in GIVES["evaluation"])
    return (
        f"select w.*, c.text_uid is null as pass_{n}, {columns} "
        f"from work w left join contaminated_{n} c using (text_uid)"
    )
