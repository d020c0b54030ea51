"""Views of what was trained and found: `models` (training runs), `metrics`, `outcomes`, `forgetting`, `ablations`."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from curation.schema import FIGURES, FORGETTING, OUTCOMES
from curation.step import digest
from pipelines import database
from pipelines.store import Store

MODELS = pa.schema(
    [("run", pa.string()), ("name", pa.string()), ("key", pa.string()), ("version", pa.string()),
     ("version_digest", pa.string()), ("config_digest", pa.string()), ("code_version", pa.int64()),
     ("seed", pa.int64()), ("num_samples", pa.int64()), ("num_texts", pa.int64()),
     ("num_parameters", pa.int64()), ("num_steps", pa.int64()),
     ("samples_seen", pa.int64()), ("seconds", pa.float64()), ("cpu_s", pa.float64()), ("loss", pa.float64())]
)  # fmt: skip
"""A finished training run. cpu_s: CPU-seconds of its workers. config_digest: the same for runs that differ in seed and
version only, so that `group by config_digest` compares like with like."""
ABLATIONS = pa.schema(
    [("ablation", pa.string()), ("policy", pa.string()), ("version", pa.string()), ("num_texts", pa.int64()),
     ("num_samples", pa.int64()), ("suite", pa.string()), ("metric", pa.string()), ("direction", pa.string()),
     ("language", pa.string()), ("value", pa.float64()), ("lo", pa.float64()), ("hi", pa.float64()),
     ("chance", pa.float64()), ("interval", pa.string()), ("gain", pa.float64()), ("gain_lo", pa.float64()),
     ("gain_hi", pa.float64()), ("seed_lo", pa.float64()), ("seed_hi", pa.float64()), ("num_seeds", pa.int64()),
     ("samples_seen", pa.int64()), ("train_cpu_s", pa.float64()), ("select_cpu_s", pa.float64()),
     ("pack_cpu_s", pa.float64()), ("runs", pa.list_(pa.string()))]
)  # fmt: skip
"""Row of the view `ablations`: one policy and figure. gain: over the first policy. interval: what was drawn anew for
lo and hi; seed_lo, seed_hi: the least and the greatest of the seeds. train_cpu_s: of one run, the mean."""
ABLATIONS_FOLDER = "ablations"
"""In the store: one folder an ablation, and `costs/`, what each version cost when it was made."""


def create_model_views(con: database.Connection, store: Store) -> None:
    """Add the five views; those that nothing was found for are empty."""
    con.register("models", _models(store))
    models = store.root / "models"
    database.create_view(con, "metrics", sorted(models.glob("*/evaluation-*.parquet")), FIGURES)
    database.create_view(con, "outcomes", sorted(models.glob("*/outcomes-*.parquet")), OUTCOMES)
    database.create_view(con, "forgetting", sorted(models.glob("*/forgetting-*.parquet")), FORGETTING)
    database.create_view(con, "ablations", sorted((store.root / ABLATIONS_FOLDER).glob("*/table.parquet")), ABLATIONS)


def _models(store: Store) -> pa.Table:
    rows = []
    for path in sorted((store.root / "models").glob("*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        config = path.with_name("config.json")
        facts: dict[str, Any] = {name: result.get(name) for name in MODELS.names}
        facts |= {"run": path.parent.name, "name": path.parent.name.rpartition("-")[0]}
        facts["loss"] = result.get("metrics", {}).get("loss")
        if config.is_file():
            facts["config_digest"] = _config_digest(json.loads(config.read_text(encoding="utf-8")))
        rows.append(facts)
    return pa.Table.from_pylist(rows, schema=MODELS)


def _config_digest(config: dict[str, Any]) -> str:
    return digest({name: value for name, value in config.items() if name not in ("name", "version", "seed")})
