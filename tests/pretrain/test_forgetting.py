"""The forgetting matrix of three stages on three snapshots by language (F28), against its definition; and what SQL says
of runs and their figures (F01)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import sample, spec, write_version
from typer.testing import CliRunner

from flows.cli import app
from flows.training import evaluate_stages, train_config
from pipelines.store import Store, StoreError
from pipelines.summary import ask
from pipelines.yaml_place import RecipeError
from pretrain.config import ConfigError
from pretrain.evaluate import evaluate
from pretrain.forgetting import TRANSFER, Learned, forgetting, stages_before

SNAPSHOTS = {"first": "aa", "second": "ab", "third": "ac"}
PICTURES = 24


def silent(_: str) -> None:
    """No progress."""


def snapshot(place: int, language: str) -> list[dict[str, Any]]:
    """Pictures of their own, named in one language, and in one that nobody trains on."""
    rows = [sample(PICTURES * place + n) for n in range(PICTURES)]
    for row in rows:
        row["texts"] = [text for text in row["texts"] if text["languages"][0] in (language, "zz")]
    return rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store with three snapshots, and the config whose stages train on them in turn."""
    store = tmp_path_factory.mktemp("forgetting") / "store"
    Store.create(store)
    for place, (name, language) in enumerate(SNAPSHOTS.items()):
        write_version(store, snapshot(place, language), name=name)
    stages = [{"stage": name, "version": name} for name in SNAPSHOTS]
    changes = {"name": "grown", "where": [], "steps": 60, "checkpoint_every": 60, "lr": 0.005, "augment": False}
    config = store.parent / "stages.yaml"
    config.write_text(json.dumps({**spec(**changes), "stages": stages}))
    evaluate_stages(config, store, silent)
    return store, config


@pytest.mark.family("F28")
def test_the_matrix_is_every_stage_on_every_set(trained: tuple[Path, Path]) -> None:
    """F28 (b): the cells are the evaluations, the changes their differences, backward transfer the mean of the last."""
    store, config = trained
    stages = stages_before(train_config(config, store, "serial", silent))
    assert [each.stage for each in stages] == list(SNAPSHOTS)
    said: list[str] = []
    found = forgetting(stages, store, progress=said.append)
    assert sum("is there already, reused" in line for line in said) == 9
    names = ("suite", "direction", "metric")
    cells = {(row["number"], row["learned_in"], *(row[name] for name in names)): row for row in found.cells}
    assert len(cells) == len(found.cells)
    wanted = ("held_out_languages", "text_to_image", "recall_at_5")
    matrix = np.array([[cells[stage, name, *wanted]["value"] for name in SNAPSHOTS] for stage in (1, 2, 3)])
    for number, stage in enumerate(stages, start=1):
        for name in SNAPSHOTS:
            rows = evaluate(stage.run, store, name, progress=silent)
            (own,) = (r for r in rows if tuple(r[n] for n in names) == wanted and r["language"] is None)
            cell = cells[number, name, *wanted]
            assert [cell[each] for each in ("value", "lo", "hi", "chance")] == [
                own[each] for each in ("value", "lo", "hi", "chance")
            ]
    diagonal = matrix.diagonal()
    assert (diagonal > 2 * 5 / PICTURES).all()  # what was just learned is known
    assert (matrix[np.triu_indices(3, 1)] < diagonal.min()).all()  # what is still to come is not
    assert (matrix[2, :2] < diagonal[:2]).all()  # and without replay it is forgotten
    for number in (1, 2, 3):
        for place, name in enumerate(SNAPSHOTS):
            cell = cells[number, name, *wanted]
            assert (cell["change"] is None) == (number <= place + 1)
            if cell["change"] is not None:
                assert cell["change"] == pytest.approx(matrix[number - 1, place] - diagonal[place])
                assert cell["change_lo"] <= cell["change"] <= cell["change_hi"] <= 0
    transfers = {tuple(row[name] for name in names): row for row in found.transfers}
    transfer = transfers["held_out_languages", "text_to_image", TRANSFER + "recall_at_5"]
    assert transfer["value"] == pytest.approx(np.mean(matrix[2, :2] - diagonal[:2]))
    assert transfer["lo"] <= transfer["value"] <= transfer["hi"] < transfer["chance"] == 0
    gap = transfers["held_out_languages", None, TRANSFER + "modality_gap"]
    assert (gap["lo"], gap["hi"], gap["n"]) == (None, None, 2)  # no mean over samples, one run: no interval


@pytest.mark.family("F28")
def test_sql_and_the_command_line_show_it(trained: tuple[Path, Path]) -> None:
    store, config = trained
    shown = CliRunner().invoke(app, ["eval", str(config), "--store", str(store), "--stages"])
    assert shown.exit_code == 0, shown.output
    for part in ("held_out_languages, text_to_image, recall_at_5", "backward_transfer_recall_at_5", "first-"):
        assert part in shown.output
    rows = ask(
        Store.open(store),
        "select stage, learned_in, value, change from forgetting where metric = 'recall_at_5' and "
        "direction = 'text_to_image' and suite = 'held_out_languages' order by number, learned_in",
    ).to_pylist()
    assert [row["stage"] for row in rows] == [name for name in SNAPSHOTS for _ in range(3)]
    (transfer,) = ask(
        Store.open(store),
        "select value from metrics where metric = 'backward_transfer_recall_at_5' and direction = 'text_to_image' "
        "and suite = 'held_out_languages'",
    ).to_pylist()
    last = {row["learned_in"]: row["change"] for row in rows[6:]}
    assert transfer["value"] == pytest.approx((last["first"] + last["second"]) / 2)


@pytest.mark.family("F01")
def test_sql_gives_a_row_for_each_run_and_figure_with_its_snapshot(trained: tuple[Path, Path]) -> None:
    """F01 (f), with all that its table asks for."""
    store, _ = trained
    found = ask(
        Store.open(store),
        "select run, models.version_digest as data_snapshot, config_digest, code_version, seed, samples_seen, seconds, "
        "cpu_s, metrics.version as evaluated_on, suite, direction, metric, language, value "
        "from models join metrics using (run)",
    ).to_pylist()
    keys = [tuple(row[name] for name in ("run", "evaluated_on", "suite", "direction", "metric", "language"))
            for row in found]  # fmt: skip
    assert len(keys) == len(set(keys))
    assert {row["run"] for row in found} == {path.parent.name for path in store.glob("models/grown-*/result.json")}
    digests = {path.parent.name: json.loads(path.read_text())["digest"] for path in store.glob("versions/*/*.json")}
    for row in found:
        name = next(name for name in SNAPSHOTS if f"-{name}-" in row["run"])
        assert row["data_snapshot"] == next(own for version, own in digests.items() if version.startswith(name))
        assert (row["seed"], row["samples_seen"]) == (0, 60 * 16)
        assert row["value"] is not None


def test_what_has_no_matrix_is_named(trained: tuple[Path, Path], tmp_path: Path) -> None:
    store, config = trained
    stages = stages_before(train_config(config, store, "serial", silent))
    with pytest.raises(ConfigError, match="compares stages: 1 is there"):
        forgetting(stages[:1], store)
    same = [Learned(each.stage, each.run, stages[0].version_digest) for each in stages]
    with pytest.raises(ConfigError, match=r"all 3 stages trained on first-.*--on"):
        forgetting(same, store)
    with pytest.raises(ConfigError, match=r"nothing is no finished stage.*stage\.json"):
        stages_before(store / "models" / "nothing")
    plain = tmp_path / "plain.yaml"
    plain.write_text(json.dumps(spec(name="plain", where=[], version="first", steps=2)))
    with pytest.raises(RecipeError, match="is no finished stage of a run of several"):
        evaluate_stages(plain, store, silent)
    with pytest.raises(StoreError, match="has no version 'fourth'; there are: first-"):
        evaluate_stages(config, store, silent, on=["fourth"])
    for wrong, said in (
        ([str(store / "models")], "is a folder, but not that of a finished run"),
        ([str(train_config(config, store, "serial", silent)), "--labels", "kind"], "has no column 'kind'"),
    ):
        shown = CliRunner().invoke(app, ["eval", *wrong, "--store", str(store)], env={"COLUMNS": "400"})
        assert shown.exit_code == 2
        assert said in " ".join(shown.output.split())
    twice = CliRunner().invoke(app, ["eval", str(config), "--store", str(store), "--on", "first", "--on", "second"])
    assert twice.exit_code == 2
    assert "only --stages takes several" in twice.output
