"""An ablation as a file, and its dataset versions: several policies over one table of signals, each packed once.

Nothing is downloaded or scored, and the store's present decisions and latest version stay what they are: each policy
decides on a copy of the store's state, which is then thrown away. What is kept are the decisions' parts, the selection
and the version, all named by their content.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from curation.policy import PolicyItem
from curation.step import Step
from curation.table import replace_text
from pipelines.model_views import ABLATIONS_FOLDER
from pipelines.policy_file import load_policy
from pipelines.pool_rows import PoolRows
from pipelines.recipe import Identifier, Recipe
from pipelines.reselect import check_pack, find_stored_matches, stored_rows
from pipelines.run import STAGES, audit_store
from pipelines.selections import find_selection
from pipelines.stage import AccountingError, Report, Run
from pipelines.store import Store, StoreError
from pipelines.stored_searches import check_stored
from pipelines.views import open_store
from pipelines.workers import Workers
from pipelines.yaml_place import RecipeError, load


class Figure(Step):
    """One figure that the table and the plot show, as the view `metrics` names it."""

    suite: str
    metric: str
    direction: str | None = None
    language: str | None = None

    def title(self) -> str:
        """`held_out_languages recall_at_10 text_to_image`."""
        return " ".join(word for word in (self.suite, self.metric, self.direction, self.language) if word)


class Suites(Step):
    """What every run is evaluated on: the same version for all of them."""

    dataset: str
    """A version: a name in the store, or the folder (relative to the ablation's file) of one elsewhere. A folder that
    holds several, such as a store's `versions`, stands for the one version in it."""
    label_column: str | None = None
    """Column of the classes for zero-shot, neighbours and the probe; by default `category`, where there is one."""


class Ablation(Step):
    """n policies over one table of signals, n versions, on each the same training with the same budget and seeds."""

    name: Identifier
    description: str = ""
    recipe: Path
    """Of it the seed and the packing are taken, as `tamis select` does. Relative to this file, like all paths."""
    store: Path | None = None
    """`tamis ablate --store` takes its place."""
    policies: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=60)], str] = Field(
        min_length=1
    )
    """Name -> YAML with a `policy`, or the name of a selection or version of the store. The first is the one that the
    others are compared with."""
    train: Path
    """A training config; version, seed and length are the ablation's."""
    samples_seen: int = Field(ge=1)
    """The budget of every run, whatever the size of its version (DataComp, arXiv 2304.14108, section 3.4)."""
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    evaluate: Suites
    figures: list[Figure] = Field(min_length=1)

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**63:
            raise ValueError(f"{seeds}: seeds are different numbers from 0, below 2^63")
        return seeds

    @model_validator(mode="after")
    def _names(self) -> Ablation:
        titles = [figure.title() for figure in self.figures]
        twice = {title for title in titles if titles.count(title) > 1}
        if twice:
            raise ValueError(f"figures: {sorted(twice)} twice")
        return self


def load_ablation(path: Path, store: Path | None = None, on: str | None = None) -> Ablation:
    """Read an ablation's file; its paths become absolute. store, on: in place of its `store` and `evaluate.dataset`.

    Raises RecipeError with the place of each mistake.
    """
    found, places = load(path, Ablation)
    base = path.absolute().parent
    own = base / found.store if found.store is not None else None
    if store is None and own is None:
        raise RecipeError(f"{places('store')}: no store: name it here, or with --store")
    policies = {}
    for name, wanted in found.policies.items():
        is_file = wanted.endswith((".yaml", ".yml"))
        if is_file and not (base / wanted).is_file():
            raise RecipeError(f"{places('policies', name)}: there is no file {base / wanted}")
        policies[name] = str(base / wanted) if is_file else wanted
    for field in ("recipe", "train"):
        if not (base / getattr(found, field)).is_file():
            raise RecipeError(f"{places(field)}: there is no file {base / getattr(found, field)}")
    dataset, place = (found.evaluate.dataset, places("evaluate", "dataset")) if on is None else (on, "--on")
    if "/" in dataset and "://" not in dataset:
        dataset = str(_only_version((base if on is None else Path.cwd()) / dataset, place))
    return found.changed(
        store=(store or own or base).absolute(), recipe=base / found.recipe, train=base / found.train,
        policies=policies, evaluate=found.evaluate.changed(dataset=dataset),
    )  # fmt: skip


def _only_version(folder: Path, place: str) -> Path:
    """The version that a folder is, or that alone lies in it."""
    if (folder / "manifest.json").is_file():
        return folder
    inside = sorted(path.parent for path in folder.glob("*/manifest.json"))
    if len(inside) != 1:
        names = ", ".join(path.name for path in inside) or "none"
        raise RecipeError(f"{place}: {folder} is no version, and holds not one but these: {names}")
    return inside[0]


@dataclass(frozen=True)
class PolicyVersion:
    """What a policy of an ablation keeps. selection: name of the decisions; version: folder name of the packed version.

    content: digest of the rows that it holds, the same for policies that keep the same.
    select_cpu_s, pack_cpu_s: CPU-seconds of this process and its children, when it was made; null where it was not made
    by an ablation, or workers of a Ray cluster made it.
    """

    policy: str
    selection: str
    version: str
    num_texts: int
    num_samples: int
    content: str
    select_cpu_s: float | None = None
    pack_cpu_s: float | None = None


def policy_items(ablation: Ablation, store: Store, rows: PoolRows) -> dict[str, list[PolicyItem]]:
    """The items of every policy, checked before anything runs. Raises RecipeError or StoreError."""
    chosen, _ = load(ablation.recipe, Recipe)
    check_pack(ablation.recipe, chosen, rows.types)
    return {
        name: load_policy(Path(wanted), store, rows.types)
        if wanted.endswith((".yaml", ".yml"))
        else _stored(store, wanted, rows)
        for name, wanted in ablation.policies.items()
    }


def _stored(store: Store, wanted: str, rows: PoolRows) -> list[PolicyItem]:
    found = find_selection(store, wanted)
    check_stored(found.items(), store, rows.types, lambda number, *_: f"{found.name}: policy[{number}]")
    return found.items()


def make_versions(ablation: Ablation, store: Store, workers: Workers, say: Report) -> list[PolicyVersion]:
    """Decide and pack each policy, or find what was made before. The caller holds the store's lock.

    A policy that keeps the same rows as an earlier one is given the earlier one's version: trained on its own it would
    give other figures, because a version's order is its own, and the difference would be nothing but chance.
    """
    rows = stored_rows(store)
    chosen, _ = load(ablation.recipe, Recipe)
    made: list[PolicyVersion] = []
    for number, (name, items) in enumerate(policy_items(ablation, store, rows).items(), start=1):
        say(f"ablate: policy {number} of {len(ablation.policies)}: {name}")
        recipe = chosen.changed(name=name, policy=items, rounds=[], train=None)
        own = _make(Run(recipe, store, workers, store.state(), say=say), name, say)
        first = next((each for each in made if each.content == own.content), None)
        if first is not None:
            say(f"  {name} keeps what {first.policy} keeps: one version, {first.version}, stands for both")
            own = replace(own, version=first.version)
        made.append(own)
    return made


def _make(run: Run, name: str, say: Report) -> PolicyVersion:
    cpu_s, found = {}, {}
    find_stored_matches(run)
    for stage in ("select", "pack"):
        before = _cpu_seconds()
        found[stage] = STAGES[stage](run)  # the state that it changes is not saved
        cpu_s[stage] = round(_cpu_seconds() - before, 3)
    if not found["pack"]["samples"]:
        raise StoreError(f"the policy {name!r} keeps nothing, so there is nothing to train on: loosen it")
    version, selection = str(found["pack"]["version"]), str(run.state.selection)
    path = run.store.root / ABLATIONS_FOLDER / "costs" / f"{version}.json"
    if found["pack"]["parts_run"] or not path.is_file():
        problems = audit_store(open_store(run.store, run.state))
        if problems:
            raise AccountingError(f"the accounts of policy {name!r} do not close:\n" + "\n".join(problems))
    costs: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for stage in ("select", "pack"):
        if found[stage]["parts_run"] and not found[stage]["parts_reused"]:
            costs[f"{stage}_cpu_s"] = cpu_s[stage]
    replace_text(path, json.dumps(costs, indent=1, sort_keys=True) + "\n")
    counts = (int(found["pack"]["texts"]), int(found["pack"]["samples"]))
    say(f"  {name}: {counts[0]:,} texts of {counts[1]:,} samples in {version}")
    return PolicyVersion(name, selection, version, *counts, found["pack"]["content"]["digest"], **costs)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
