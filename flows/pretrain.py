"""The flow `pretrain`: one config trained on a dataset version and evaluated, as `tamis train` and `tamis eval` do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import server
from flows.curate import artifact, as_task, check_given, teller
from flows.figures import figures
from flows.training import train_config

server.prepare_environment()

from prefect import flow  # noqa: E402


@flow(name="pretrain", persist_result=False, result_serializer="json")
def pretrain(config: str, store: str, address: str = "local") -> dict[str, Any]:
    """Train and evaluate; returns the model's folder name and its figures. A model that is there is not trained again.

    config, store: paths, relative to the deployment's folder. address: serial | local | auto | ray://HOST:PORT.
    """
    from pretrain.evaluate import evaluate

    say = teller()
    check_given(config=config, store=store)
    trained: list[Path] = []
    rows: list[dict[str, Any]] = []

    def train_step() -> dict[str, Any]:
        trained.append(train_config(Path(config), Path(store), address, say))
        return {"model": trained[0].name}

    def evaluate_step() -> dict[str, Any]:
        rows.extend(evaluate(trained[0], Path(store), progress=say))
        return {"rows": len(rows)}

    counts = as_task("train", train_step)
    as_task("evaluate", evaluate_step)
    say(figures(rows))
    artifact(f"figures-{counts['model']}", rows, f"Retrieval figures of {counts['model']} in {store}", say)
    return {**counts, "figures": rows}
