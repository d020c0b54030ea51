"""`tamis ablate`: versions of several policies, the same training on each with several seeds, one table and plot.

Whatever is done is found by its name and not done again: decisions and versions (`pipelines.ablation`), runs
(`pretrain.run`, which go on from their newest checkpoint) and evaluations. So a call that was killed anywhere is
continued by the same call, and ends with the same figures.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.step import digest
from pipelines import ablation_report
from pipelines.ablation import Ablation, Figure, PolicyVersion, load_ablation, make_versions, policy_items
from pipelines.model_views import ABLATIONS_FOLDER
from pipelines.reselect import stored_rows
from pipelines.stage import Report
from pipelines.store import Store
from pipelines.workers import make_workers
from pipelines.yaml_place import RecipeError
from pretrain import found
from pretrain.checked import EvaluationError
from pretrain.comparison import Incomparable, RunRows, Wanted, compare, figure_of
from pretrain.config import ConfigError, TrainConfig, load_config
from pretrain.evaluate import evaluate, evaluation_files
from pretrain.run import RunResult, train
from pretrain.stages import has_stages
from pretrain.version import Version, VersionError, open_version

NAME_DIGITS = 12


@dataclass(frozen=True)
class Result:
    """folder: of the table and the plot, STORE/ablations/<name>-<12 digits of what it was made from>."""

    folder: Path
    rows: list[dict[str, Any]]


def ablate(path: Path, store: Path | None, on: str | None, address: str, say: Report) -> Result:
    """Do what the file says, or what of it is missing. Raises RecipeError, StoreError, or what training raises.

    store, on: in place of the file's store and of the version that it evaluates on.
    address: where packing and training run; `serial` trains with one worker in this process, whatever the config says.
    """
    ablation = load_ablation(path, store, on)
    opened = Store.open(Path(ablation.store or ""))
    try:
        base = training(ablation, address)
        if base.warmup_steps >= (base.steps or 0):
            say(
                f"ablate: the budget is {base.steps} steps, all of them within warmup_steps {base.warmup_steps}: the "
                f"learning rate never gets to lr {base.lr:g}"
            )
        data = _evaluated_on(ablation, opened)
        policy_items(ablation, opened, stored_rows(opened))  # a mistake in any of them ends here
        with opened.locked():
            workers = make_workers("serial" if address == "serial" else address)
            try:
                versions = make_versions(ablation, opened, workers, say)
            finally:
                workers.close()
        runs = _runs(ablation, versions, base, opened, data, address, say)
        return _report(ablation, versions, runs, data, opened, say)
    except (ConfigError, VersionError, EvaluationError, Incomparable, FloatingPointError) as error:
        raise RecipeError(f"{path}: {error}") from error


def training(ablation: Ablation, address: str) -> TrainConfig:
    """The training config with the ablation's budget. Raises ConfigError where the budget is no number of steps, or the
    config has stages: how a budget is to be shared out among them is for who writes them."""
    if has_stages(ablation.train):
        raise ConfigError(
            f"train: {ablation.train} has `stages`, each with a length of its own, but every run of an ablation has "
            "one budget (samples_seen): name a config without `stages`, and train the stages on the version that wins"
        )
    config = load_config(ablation.train, steps=1, epochs=None)
    if ablation.samples_seen % config.batch_size:
        raise ConfigError(
            f"samples_seen: {ablation.samples_seen:,} is no multiple of the batch_size {config.batch_size} of "
            f"{ablation.train}"
        )
    changes: dict[str, Any] = {"steps": ablation.samples_seen // config.batch_size}
    if address == "serial":
        changes["num_workers"] = 1
    return config.model_copy(update=changes)


def _evaluated_on(ablation: Ablation, store: Store) -> Version:
    wanted = ablation.evaluate.dataset
    return open_version(wanted if "/" in wanted else store.version_path(wanted))


def _runs(
    ablation: Ablation, versions: list[PolicyVersion], base: TrainConfig, store: Store, data: Version, address: str,
    say: Report,
) -> dict[str, list[RunResult]]:  # fmt: skip
    """All runs, trained and evaluated, by policy. The seeds go round before the policies' second ones, so that a table
    of what is there so far compares like with like."""
    made: dict[str, list[RunResult]] = {each.policy: [] for each in versions}
    total, done = len(versions) * len(ablation.seeds), 0
    took: list[float] = []
    for seed in ablation.seeds:
        for each in versions:
            done += 1
            left = f", about {_minutes(float(np.mean(took)) * (total - done + 1))} left" if took else ""
            say(f"ablate: run {done} of {total}: {each.policy}, seed {seed}{left}")
            began = time.monotonic()
            config = base.model_copy(update={"version": each.version, "seed": seed})
            result = train(config, store.root, None if address == "serial" else address, say)
            answers = _evaluate(ablation, result.folder, store, data, say)
            for figure in ablation.figures:  # what no run will have is known after the first
                figure_of(answers, _wanted(figure))
            if not result.reused:
                took.append(time.monotonic() - began)
            made[each.policy].append(result)
    return made


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _evaluate(ablation: Ablation, run: Path, store: Store, data: Version, say: Report) -> RunRows:
    place, labels = str(data.folder) if "://" not in data.place else data.place, ablation.evaluate.label_column
    rows = evaluate(run, store.root, place, label_column=labels, progress=lambda line: say(f"  {line}"))
    return RunRows(rows, found.read(evaluation_files(run, data, labels)[1]))


def _wanted(figure: Figure) -> Wanted:
    return Wanted(figure.suite, figure.metric, figure.direction, figure.language)


def _report(
    ablation: Ablation, versions: list[PolicyVersion], runs: dict[str, list[RunResult]], data: Version, store: Store,
    say: Report,
) -> Result:  # fmt: skip
    """The table and the plot, in a folder that is named by the runs, the questions and the figures."""
    quiet: Report = lambda _: None  # noqa: E731
    answered = {
        name: [_evaluate(ablation, run.folder, store, data, quiet) for run in results] for name, results in runs.items()
    }
    rows: list[dict[str, Any]] = []
    key = digest("ablation", [[name, [run.key for run in each]] for name, each in runs.items()], data.digest,
                 [figure.title() for figure in ablation.figures])  # fmt: skip
    folder = store.root / ABLATIONS_FOLDER / f"{ablation.name}-{key[:NAME_DIGITS]}"
    for figure in ablation.figures:
        wanted = _wanted(figure)
        compared = compare(wanted, answered)
        for each in versions:
            results = runs[each.policy]
            rows.append(
                {
                    "ablation": folder.name,
                    **{name: value for name, value in vars(each).items() if name != "content"},
                    **vars(wanted),
                    **compared[each.policy],
                    "samples_seen": ablation.samples_seen,
                    "train_cpu_s": round(float(np.mean([run.cpu_s for run in results])), 3),
                    "runs": [run.folder.name for run in results],
                }
            )
    ablation_report.write(rows, ablation, folder)
    say(f"ablate: {folder / ablation_report.TABLE_FILE} and {ablation_report.PLOT_FILE}")
    return Result(folder, rows)
