"""Small tables of candidates, and what a policy decides about them: for the tests of rules."""

import math
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from curation.policy import Policy
from pipelines import database
from pipelines.decide import Decider
from pipelines.decided import DECIDED
from pipelines.solve import solve
from pipelines.views import DUPLICATES
from tests.pipelines.table_rows import TableRows

COLUMNS = pa.schema(
    [
        ("text_uid", pa.string()),
        ("sample_uid", pa.string()),
        ("media_uid", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("size_bytes", pa.int64()),
        ("clip_score", pa.float32()),
        ("language", pa.string()),
        ("entry_ids", pa.list_(pa.int32())),
        ("entry_language", pa.string()),
        ("draw", pa.float64()),
    ]
)


def row(text: int, sample: int, **fields: Any) -> dict[str, Any]:
    base = {"width_px": 64, "height_px": 64, "size_bytes": 100, "clip_score": 0.5, "language": "en", "draw": 0.5}
    return {
        "text_uid": f"t{text:03d}",
        "sample_uid": f"s{sample:03d}",
        "media_uid": f"m{sample:03d}",
        **base,
        "entry_ids": [],
        **fields,
    }


def decide(
    table: pa.Table,
    policy: list[dict[str, Any]],
    searches: dict[str, pa.Table],
    batch_rows: int = 1000,
    threads: int = 1,
) -> pa.Table:
    """What a policy decides about the rows of `table`; `searches` are the tables of the stage dedupe."""
    rows = TableRows(table, batch_rows)
    with Decider(rows, TypeAdapter(Policy).validate_python(policy), searches, threads) as decider:
        solve(decider)
        made = [decisions for _, decisions in decider.each(decider.decisions)]
        if not made:  # no batch, no part
            return DECIDED.empty_table()
        parts = pa.concat_tables(made)
        con = database.connect(threads=1)
        con.register("parts", parts)
        return database.arrow(con, decider.asked_policy().view("parts", parts.column_names)).cast(DECIDED)


def decisions(
    rows: list[dict[str, Any]],
    policy: list[dict[str, Any]],
    groups: dict[str, str] | None = None,
    batch_rows: int = 1000,
    threads: int = 1,
) -> dict[str, Any]:
    found = [{"media_uid": m, "duplicate_group": g} for m, g in (groups or {}).items()]
    duplicates = pa.Table.from_pylist(found, schema=DUPLICATES)
    table = pa.Table.from_pylist(rows, schema=COLUMNS)
    made = decide(table, policy, {"duplicates": duplicates}, batch_rows, threads)
    assert made.column("text_uid").to_pylist() == [r["text_uid"] for r in rows]
    return {d["text_uid"]: d for d in made.to_pylist()}


def dull_keep_probability(entries: list[int], counts: dict[int, int], t: int) -> float:
    return 1 - math.prod(1 - min(1.0, t / max(counts[e], t)) for e in entries)
