"""Training and evaluation on their own: `tamis train` and `tamis eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.main_job import figures
from pipelines.stage import Report
from pipelines.store import Store
from pipelines.workers import make_workers
from pipelines.yaml_place import RecipeError
from pretrain.config import ConfigError, load_config


def train_config(config: Path, store: Path, address: str, say: Report) -> Path:
    """Train what `config` describes on its version of the store; returns the model's folder. Raises RecipeError."""
    from pretrain.run import train
    from pretrain.version import VersionError

    make_workers(address)  # names an address that there is not
    found = Store.open(store)
    try:
        settings = load_config(config)
        if settings.version == "latest":
            settings = load_config(config, version=found.version_path().name)
        return train(settings, found.root, None if address == "serial" else address, say).folder
    except (ConfigError, VersionError) as error:
        raise RecipeError(str(error)) from error
    except ValueError as error:  # parts of a model that do not fit together
        raise RecipeError(f"{config}: {error}") from error


def evaluate_config(config: Path, store: Path, say: Report) -> list[dict[str, Any]]:
    """Evaluate the model that `config` trained (it is trained first where it is not there); returns the figures."""
    from pretrain.evaluate import evaluate

    rows = evaluate(train_config(config, store, "serial", say), store, progress=say)
    say(figures(rows))
    return rows
