"""Stages: several runs one after the other, each starting from the weights of the one before.

A config with `stages:` is a base and, for each stage, the fields that it changes; each stage is a run of its own, with
its own name, key, checkpoints and metrics, so a stage that is done is reused and one that was cut off goes on. The key
of a stage holds the digest of the weights that it starts from.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from curation.table import replace_text
from pretrain.config import ConfigError, TrainConfig, parse_config, read_spec
from pretrain.preflight import check_later
from pretrain.run import RunResult, train

BEFORE, FRESH = "before", "fresh"
"""`init` of a stage: the weights of the stage before (the default of all but the first), or those that `model` says."""
_OWN = {"stage", "init"}


@dataclass(frozen=True)
class Stage:
    """One stage. config: without `init` where that is the stage before."""

    name: str
    config: TrainConfig
    starts_before: bool

    def on(self, version: str) -> Stage:
        """The same on another version."""
        return replace(self, config=self.config.model_copy(update={"version": version}))


def is_staged(spec: object) -> bool:
    """Whether a training config has stages."""
    return isinstance(spec, dict) and "stages" in spec


def has_stages(path: Path) -> bool:
    """The same of a file; False where it cannot be read, which is told by who reads it."""
    try:
        return is_staged(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError):
        return False


def parse_stages(spec: dict[str, Any], place: str = "config") -> list[Stage]:
    """All stages, checked before any data is read. Raises ConfigError naming the stage and the field."""
    stages = spec.get("stages")
    if not isinstance(stages, list) or not stages:
        raise ConfigError(f"{place}: stages must be a list of at least one mapping")
    base = {name: value for name, value in spec.items() if name != "stages"}
    found: list[Stage] = []
    for number, changes in enumerate(stages):
        here = f"{place}: stages[{number}]"
        if not isinstance(changes, dict):
            raise ConfigError(f"{here} must be a mapping of fields, not {type(changes).__name__}")
        name = str(changes.get("stage", f"stage{number + 1}"))
        if name in [stage.name for stage in found]:
            raise ConfigError(f"{here}: there is a stage {name!r} already; give each a name of its own in `stage`")
        merged = {**base, **{field: value for field, value in changes.items() if field not in _OWN}}
        merged["name"] = f"{base.get('name', 'model')}-{name}"
        init = changes.get("init", BEFORE if number else base.get("init", FRESH))
        if init == BEFORE and not number:
            raise ConfigError(f"{here}: init: before, but there is no stage before the first")
        merged["init"] = None if init in (BEFORE, FRESH) else init
        if "steps" in changes and "epochs" not in changes:
            merged.pop("epochs", None)
        if "epochs" in changes and "steps" not in changes:
            merged.pop("steps", None)
        found.append(Stage(name, parse_config(merged, here), init == BEFORE))
    return found


def train_stages(
    stages: list[Stage], store: Path, address: str | None = "local", progress: Callable[[str], None] = print
) -> list[RunResult]:
    """Train all stages in turn, or reuse those that are done; the last result is the model.

    Each run's folder says in `stage.json` which stage it is and which run came before. Raises as `train` does.
    """
    results: list[RunResult] = []
    for before, stage in pairwise(stages):  # what is wrong in the last one is told now, not when the others are trained
        check_later(stage.name, stage.config, store, before.config if stage.starts_before else None)
    for stage in stages:
        config = stage.config
        parent = results[-1] if stage.starts_before else None
        if parent is not None:
            config = config.model_copy(update={"init": str(parent.folder)})
        if len(stages) > 1:
            progress(f"train: stage {stage.name}" + (f", from {parent.folder.name}" if parent else ""))
        result = train(config, store, address, progress)
        results.append(result)
        if len(stages) == 1:
            break
        facts = {
            "stage": stage.name,
            "number": len(results),
            "num_stages": len(stages),
            "parent_run": parent.folder.name if parent else None,
            "parent_weights_sha256": parent.weights_sha256 if parent else None,
        }
        replace_text(result.folder / "stage.json", json.dumps(facts, indent=1) + "\n")
    return results


def load_stages(path: Path, **changes: object) -> list[Stage]:
    """The stages of a config in YAML; one without `stages` is a single one. Raises ConfigError."""
    return stages_of(read_spec(path, **changes), str(path))


def stages_of(spec: object, place: str = "config") -> list[Stage]:
    """The stages of a config given as a mapping; one without `stages` is a single one. Raises ConfigError."""
    if isinstance(spec, dict) and is_staged(spec):
        return parse_stages(spec, place)
    return [Stage("all", parse_config(spec, place), False)]
