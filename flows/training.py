"""Training and evaluation on their own: `tamis train` and `tamis eval`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from flows.figures import figures, others
from pipelines.stage import Report
from pipelines.store import Store
from pipelines.workers import make_workers
from pipelines.yaml_place import RecipeError
from pretrain.checked import EvaluationError
from pretrain.comparison import Incomparable
from pretrain.config import ConfigError


def train_config(config: Path, store: Path, address: str, say: Report) -> Path:
    """Train what `config` describes, all of its stages, on its version of the store; returns the (last) model's folder.

    Raises RecipeError.
    """
    from pretrain.checkpoint import CheckpointError
    from pretrain.loader import LoaderError
    from pretrain.stages import load_stages, train_stages
    from pretrain.version import VersionError

    make_workers(address)  # names an address that there is not
    found = Store.open(store)
    try:
        stages = load_stages(config)
        if any(stage.config.version == "latest" for stage in stages):
            latest = found.version_path().name
            stages = [stage.on(latest) if stage.config.version == "latest" else stage for stage in stages]
        return train_stages(stages, found.root, None if address == "serial" else address, say)[-1].folder
    except (ConfigError, VersionError, FloatingPointError, CheckpointError, LoaderError) as error:
        said = str(error)
        raise RecipeError(said if said.startswith(str(config)) else f"{config}: {said}") from error
    except ValueError as error:  # parts of a model that do not fit together
        raise RecipeError(f"{config}: {error}") from error


def evaluate_config(
    config: Path, store: Path, say: Report, on: str | None = None, labels: str | None = None
) -> list[dict[str, Any]]:
    """Evaluate the model that `config` trained (it is trained first where it is not there); returns the figures.

    config: a training config, or the folder of a finished run. on: a version to evaluate on, if not the run's own.
    labels: column of the classes. Raises RecipeError.
    """
    from pretrain.evaluate import evaluate
    from pretrain.version import VersionError

    run = _finished(config, store, say)
    place = on if on is None or "/" in on else str(Store.open(store).version_path(on))
    try:
        rows = evaluate(run, store, place, label_column=labels, progress=say)
    except (ConfigError, VersionError, EvaluationError) as error:
        raise RecipeError(str(error)) from error
    say(figures(rows))
    say("\n".join(others(rows)))
    return rows


def evaluate_stages(
    config: Path, store: Path, say: Report, on: list[str] | None = None, labels: str | None = None
) -> list[dict[str, Any]]:
    """The forgetting matrix of a config with stages (trained first where it is not there), or of the last stage's run.

    on: versions to evaluate on beside those that the stages trained on. Returns its cells. Raises RecipeError.
    """
    from pretrain.forgetting import forgetting, stages_before
    from pretrain.version import VersionError

    run = _finished(config, store, say)
    places = [each if "/" in each else str(Store.open(store).version_path(each)) for each in on or ()]
    try:
        found = forgetting(stages_before(run.resolve()), store, places, label_column=labels, progress=say)
    except (ConfigError, VersionError, EvaluationError, Incomparable) as error:
        raise RecipeError(str(error)) from error
    say("\n".join(matrices(found.cells)))
    say("\n".join(others(found.transfers)))
    return found.cells


def _finished(config: Path, store: Path, say: Report) -> Path:
    """The folder of the run that a config describes (trained first where it is not there), or that it names."""
    if (config / "result.json").is_file():
        return config
    if config.is_dir():
        raise RecipeError(f"{config} is a folder, but not that of a finished run: it has no result.json")
    return train_config(config, store, "serial", say)


def matrices(cells: list[dict[str, Any]]) -> list[str]:
    """A small table for each recall: stages downwards, evaluation sets across."""
    lines = []
    names = dict.fromkeys((row["suite"], row["direction"], row["metric"]) for row in cells)
    for suite, direction, metric in names:
        if not str(metric).startswith("recall_at_"):
            continue
        own = [row for row in cells if (row["suite"], row["direction"], row["metric"]) == (suite, direction, metric)]
        sets = list(dict.fromkeys(row["version"] for row in own))
        width = max(len(name) for name in [*sets, *(row["stage"] for row in own)])
        lines += [
            "",
            f"{suite}, {direction}, {metric}",
            " ".join([" " * width, *(f"{name:>{width}}" for name in sets)]),
        ]
        for stage in dict.fromkeys(row["stage"] for row in own):
            values = {row["version"]: f"{row['value']:.3f}" for row in own if row["stage"] == stage}
            lines.append(" ".join([f"{stage:<{width}}", *(f"{values.get(name, ''):>{width}}" for name in sets)]))
    return lines


def seen_rows(run: Path, step: int, versions: list[str] | None = None) -> list[dict[str, Any]]:
    """The samples that a step of a run saw, as rows. Raises RecipeError where the run cannot say."""
    from pretrain.seen import SeenSamples
    from pretrain.version import VersionError

    try:
        return [dataclasses.asdict(each) for each in SeenSamples(run, versions).of(step)]
    except (ConfigError, VersionError) as error:
        raise RecipeError(str(error)) from error
