"""Select: the policy over all signals. Every rule is asked about every text; each rejection is kept with its values.

The decisions are parts of whole parts of the pool, in its order, so they are made with memory for a few batches only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from curation.step import digest
from curation.table import Part, find_part, write_part
from pipelines.decide import VERSION, Decider
from pipelines.decided import hardly_repeat
from pipelines.gates import close_gates, gate_counts, judge
from pipelines.pool_rows import PoolRows
from pipelines.rule_sql import columns_read
from pipelines.select_duplicates import tables_read
from pipelines.selections import keep_selection
from pipelines.solve import solve
from pipelines.stage import Run
from pipelines.store import State, Store
from pipelines.views import SEARCHES

TABLE = "decisions"


def search_files(store: Store, state: State) -> dict[str, list[Path]]:
    """Files of what the stage dedupe found, by table."""
    return {table: store.files(state, table) for table in ("duplicates", *SEARCHES)}


def select_key(run: Run, rows: PoolRows) -> str:
    """Digest of the policy and of just those tables that it reads.

    Of a signal the names of its parts stand for it: they hold the digest of all that the part was made from.
    """
    names = {name for item in run.round.policy for name in columns_read(item)}
    tables = sorted({table for name, table in rows.provider.items() if name in names and table in run.state.signals})
    identities: dict[str, list[str]] = {
        table: [path.name for path in run.store.files(run.state, f"signal_{table}")] for table in tables
    }
    searched = {table for item in run.round.policy for table in tables_read(item)}
    identities |= {table: [path.name for path in run.store.files(run.state, table)] for table in sorted(searched)}
    identities["media"] = [part.identity for part in rows.media]
    identities["texts"] = [part.identity for part in rows.texts]
    return digest("select", VERSION, run.round.policy, identities)


def planned_decisions(run: Run) -> tuple[int, int]:
    """How many parts of the decisions a run would make and how many it would reuse. Where none is missing, the state of
    `run` then names them."""
    rows = PoolRows(run.store, run.state)
    key = select_key(run, rows)
    parts = [find_part(run.store.table(TABLE), index, digest(key, index)) for index in range(len(rows.sizes))]
    there = [run.store.relative(part.path) for part in parts if part is not None]
    if len(there) == len(parts):
        run.state.tables[TABLE] = there
    return len(parts) - len(there), len(there)


def select(run: Run, threads: int | None = None) -> dict[str, Any]:
    """Decide about every text of the pool; reuses the stored decisions where policy and signals are the same.

    Raises GateClosed where a gate of the policy does not let it through; the decisions are there to be looked at.
    """
    rows = PoolRows(run.store, run.state, keeps_columns=True)
    key, folder = select_key(run, rows), run.store.table(TABLE)
    found = {index: find_part(folder, index, digest(key, index)) for index in range(len(rows.sizes))}
    missing = [index for index, part in found.items() if part is None]
    policy = run.round.policy
    if missing:
        spill = run.store.root / "cache" / "spill"
        with Decider(rows, policy, search_files(run.store, run.state), threads, spill) as decider:
            solve(decider)

            def write(batch: int) -> Part:
                decisions = decider.decisions(batch)
                bits = decisions.column("rejections").to_numpy()
                rejections = {item.name: int(np.count_nonzero(bits >> n & 1)) for n, item in enumerate(policy)}
                stats = {
                    **decider.asked_policy().facts(),
                    "kept": pc.sum(decisions.column("kept")).as_py() or 0,
                    "rejected_by": {name: count for name, count in sorted(rejections.items()) if count},
                    **gate_counts(decider, batch, bits),
                }
                unique = hardly_repeat(decisions)
                return write_part(folder, batch, digest(key, batch), decisions, stats=stats, unique=unique)

            found |= dict(decider.each(write, missing))
        rows.tidy_cache()
    parts = [part for _, part in sorted(found.items()) if part is not None]
    run.state.tables[TABLE] = [run.store.relative(part.path) for part in parts]
    run.state.policy_name = run.round.name
    judged = judge(policy, (part.stats.get("gates", {}) for part in parts))
    keep_selection(run.store, run.state, run.label, key, policy, [each.as_json() for each in judged])
    close_gates(judged, run.say)
    return {
        "texts": sum(part.num_rows for part in parts),
        "kept": sum(part.stats["kept"] for part in parts),
        "parts_run": len(missing),
        "parts_reused": len(parts) - len(missing),
    }
