"""The forgetting matrix of a run of stages: every figure of every stage's model on every evaluation set.

A set is a dataset version: those that the stages trained on, in the order in which they came, and others by name. What
becomes of a figure after the stage that learned its set is backward transfer (Lopez-Paz and Ranzato 2017,
arXiv:1706.08840, equation 2): below 0 is forgetting, where more is better. Shape suffix: R resamplings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.schema import FIGURES, FORGETTING
from curation.step import digest
from pretrain import found as files
from pretrain.checked import EvaluationError
from pretrain.comparison import RunRows, Wanted, resamplings
from pretrain.config import ConfigError
from pretrain.evaluate import NAME_DIGITS, evaluate, evaluation_files
from pretrain.found import Row
from pretrain.metrics import TAILS
from pretrain.version import Version, find_version

TRANSFER = "backward_transfer_"
"""Of the mean over all sets but the last stage's: metric `backward_transfer_recall_at_10` and so on."""


@dataclass(frozen=True)
class Learned:
    """A finished stage. version_digest: of the version that it trained on (of a mixture, the first)."""

    stage: str
    run: Path
    version_digest: str


@dataclass(frozen=True)
class Forgetting:
    """cells: rows of `FORGETTING`. transfers: rows of `FIGURES`, one for each figure; `version` names all sets."""

    cells: list[Row]
    transfers: list[Row]


def stages_before(run: Path) -> list[Learned]:
    """The stages that a finished run came from, first to last, by the `stage.json` of each.

    Raises ConfigError where the run is no stage, or one that it came from is not there.
    """
    found: list[Learned] = []
    name: str | None = run.name
    while name is not None:
        folder = run.parent / name
        facts, result = (_read(folder / file) for file in ("stage.json", "result.json"))
        if facts is None or result is None:
            raise ConfigError(
                f"{folder} is no finished stage of a run of several: it needs stage.json and result.json, as `tamis "
                "train` writes them for a config with `stages`"
            )
        found.append(Learned(facts["stage"], folder, result["version_digest"]))
        name = facts["parent_run"]
    return found[::-1]


def _read(path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None
    facts: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return facts


def forgetting(
    stages: Sequence[Learned],
    store: Path,
    others: Sequence[str] = (),
    *,
    label_column: str | None = None,
    device: str = "auto",
    progress: Callable[[str], None] = print,
) -> Forgetting:
    """Evaluate every stage on every set, or read what is there, and write both tables into the last run's folder, where
    the views `forgetting` and `metrics` find them.

    others: versions beside the stages' own. Raises ConfigError where there are not two stages and two sets,
    VersionError, and EvaluationError where stages do not have one figure in common on a set.
    """
    if len(stages) < 2:
        raise ConfigError(f"a forgetting matrix compares stages: {len(stages)} is there, two are needed")
    learned_in = _learned_in(stages)
    sets = [find_version(store, each) for each in learned_in]
    sets += [each for each in (find_version(store, name) for name in others) if each.digest not in learned_in]
    last = stages[-1].run
    if len(sets) < 2:
        raise ConfigError(
            f"all {len(stages)} stages trained on {sets[0].folder.name}, so there is no set that an earlier one "
            "learned and a later one could forget: name other versions with --on"
        )
    answers: list[list[RunRows]] = []
    for number, stage in enumerate(stages, start=1):
        progress(f"forgetting: stage {number} of {len(stages)}, {stage.stage}, on {len(sets)} version(s)")
        answers.append([_answers(stage.run, each, store, label_column, device, progress) for each in sets])
    cells: list[Row] = []
    drawn: dict[Wanted, list[tuple[Version, float, np.ndarray | None]]] = {}
    for place, each in enumerate(sets):
        own = learned_in.get(each.digest)
        for wanted in _in_common([row[place] for row in answers], each, stages):
            for number, stage in enumerate(stages):
                cell = _cell(answers[number][place], wanted)
                change: tuple[float | None, ...] = (None, None, None)
                if own is not None and number > own:
                    difference, difference_R = _change(wanted, answers[own][place], answers[number][place], place)
                    tails = None if difference_R is None else np.quantile(difference_R, TAILS).tolist()
                    change = (difference, *(tails or (None, None)))
                    if number == len(stages) - 1:
                        drawn.setdefault(wanted, []).append((each, difference, difference_R))
                cells.append(
                    {"stage": stage.stage, "number": number + 1, "stage_run": stage.run.name,
                     "version": each.folder.name, "learned_in": None if own is None else stages[own].stage, **cell,
                     **dict(zip(("change", "change_lo", "change_hi"), change, strict=True))}
                )  # fmt: skip
    transfers = [_transfer(wanted, some) for wanted, some in drawn.items()]
    key = digest([each.digest for each in sets], label_column)[:NAME_DIGITS]
    files.write(transfers, FIGURES, last / f"evaluation-forgetting-{key}.parquet", last.name)
    files.write(cells, FORGETTING, last / f"forgetting-{key}.parquet", last.name)
    return Forgetting(
        files.read(last / f"forgetting-{key}.parquet"), files.read(last / f"evaluation-forgetting-{key}.parquet")
    )


def _learned_in(stages: Sequence[Learned]) -> dict[str, int]:
    """Digest of each version that was trained on -> number of the stage that had learned it: of those that follow each
    other on it, the first time, the last."""
    found: dict[str, int] = {}
    for number, stage in enumerate(stages):
        before = stages[number - 1].version_digest if number else None
        if stage.version_digest not in found or (before == stage.version_digest and found[before] == number - 1):
            found[stage.version_digest] = number
    return found


def _answers(
    run: Path, version: Version, store: Path, label_column: str | None, device: str, progress: Callable[[str], None]
) -> RunRows:
    place = version.place if "://" in version.place else str(version.folder)
    rows = evaluate(run, store, place, label_column=label_column, device=device, progress=progress)
    return RunRows(rows, files.read(evaluation_files(run, version, label_column)[1]))


def _in_common(answers: Sequence[RunRows], version: Version, stages: Sequence[Learned]) -> list[Wanted]:
    """The figures of no single language that every stage has on the version, in the order of the last stage's."""
    each = [
        {Wanted(row["suite"], row["metric"], row["direction"]): None for row in one.figures if row["language"] is None}
        for one in answers
    ]
    common = [wanted for wanted in each[-1] if all(wanted in some for some in each)]
    if not common:
        counts = ", ".join(f"{stage.stage} {len(some)}" for stage, some in zip(stages, each, strict=True))
        raise EvaluationError(f"{version.folder.name}: the stages have no figure in common; figures of each: {counts}")
    return common


def _cell(rows: RunRows, wanted: Wanted) -> Row:
    names = ("suite", "direction", "metric", "language")
    row = next(row for row in rows.figures if all(row[name] == getattr(wanted, name) for name in names))
    return {name: row[name] for name in ("suite", "direction", "metric", "value", "lo", "hi", "chance")}


def _change(wanted: Wanted, before: RunRows, after: RunRows, seed: int) -> tuple[float, np.ndarray | None]:
    """What became of a figure, and (R,) the same in resamplings that draw the same samples for both; None for a figure
    that is no mean over samples."""
    resampled, interval = resamplings(wanted, {"before": [before], "after": [after]}, seed)
    difference = _cell(after, wanted)["value"] - _cell(before, wanted)["value"]
    return difference, None if interval is None else resampled["after"] - resampled["before"]


def _transfer(wanted: Wanted, changes: Sequence[tuple[Version, float, np.ndarray | None]]) -> Row:
    """The mean change over the sets; each set's samples are drawn on their own."""
    drawn = [each for _, _, each in changes if each is not None]
    lo, hi = (None, None)
    if len(drawn) == len(changes):
        lo, hi = np.quantile(np.mean(drawn, axis=0), TAILS).tolist()
    return {
        "version": " + ".join(version.folder.name for version, _, _ in changes), "suite": wanted.suite,
        "direction": wanted.direction, "metric": TRANSFER + wanted.metric, "language": None,
        "value": float(np.mean([each for _, each, _ in changes])), "lo": lo, "hi": hi, "chance": 0.0,
        "n": len(changes), "num_candidates": None,
    }  # fmt: skip
