"""`tamis ablate` on a real little store: killed and called again it ends with the table of an undisturbed call."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.ablate import Result, ablate
from pipelines.ablation import load_ablation
from pipelines.ablation_report import shown
from pipelines.store import Store, StoreError
from pipelines.summary import ask
from pipelines.yaml_place import RecipeError
from tests.stores import ROOT, command, digests, environment

sys.path.append(str(ROOT / "tests" / "pretrain"))

from tiny import spec

COSTS = {"train_cpu_s", "select_cpu_s", "pack_cpu_s"}
SEEDS = [0, 1]
POLICIES = {
    "pool": [{"rule": "some_text", "keep": "text is not null and trim(text) <> ''"}],
    "curated": [
        {"rule": "clean", "keep": "text_clean is not null and not is_boilerplate"},
        {"dedupe": "near_duplicate"},
    ],
}


@dataclass(frozen=True)
class Setting:
    """file: the ablation; stores: two copies of one store."""

    file: Path
    killed: Path
    undisturbed: Path


@pytest.fixture(scope="module")
def setting(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    root = tmp_path_factory.mktemp("ablation")
    for name, policy in POLICIES.items():
        (root / f"{name}.yaml").write_text(yaml.safe_dump({"policy": policy}, sort_keys=False))
    recipe = yaml.safe_load((finished.parent / "full.yaml").read_text())
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    train = spec(name="ablated", exclude_languages=["fr"], decontamination="waived", checkpoint_every=2)
    (root / "train.yaml").write_text(yaml.safe_dump(train, sort_keys=False))
    write(root / "ablation.yaml")
    for name in ("killed", "undisturbed"):
        shutil.copytree(finished, root / name)
    return Setting(root / "ablation.yaml", root / "killed", root / "undisturbed")


def write(path: Path, **changes: Any) -> Path:
    content = {
        "name": "does-it-help", "recipe": "recipe.yaml",
        "policies": {**{name: f"{name}.yaml" for name in POLICIES}, "first": "full"},
        "train": "train.yaml", "samples_seen": 160, "seeds": SEEDS, "evaluate": {"dataset": "full"},
        "figures": [
            {"suite": "held_out_languages", "direction": "text_to_image", "metric": "recall_at_5"},
            {"suite": "held_out_languages", "metric": "modality_gap"},
        ],
    }  # fmt: skip
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def results(setting: Setting) -> tuple[Result, Result]:
    """The table after a kill -9 in the midst of the second run, and that of a call that nobody disturbed."""
    models = setting.killed / "models"
    began = time.monotonic()
    child = subprocess.Popen(
        command("ablate", setting.file, "--store", setting.killed),
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while len(list(models.glob("*/metrics.jsonl"))) < 2:
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        assert time.monotonic() - began < 120
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert len(list(models.glob("*/result.json"))) < len(SEEDS) * 3
    said: list[str] = []
    killed = ablate(setting.file, setting.killed, None, "serial", said.append)
    assert any("is there already, reused" in line for line in said)
    return killed, ablate(setting.file, setting.undisturbed, None, "serial", lambda _: None)


def figures(result: Result) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in COSTS} for row in result.rows]


def test_killed_and_called_again_the_table_is_the_same(results: tuple[Result, Result]) -> None:
    killed, undisturbed = results
    assert figures(killed) == figures(undisturbed)
    assert killed.folder.name == undisturbed.folder.name
    assert len(killed.rows) == 2 * 3
    for row in killed.rows:
        assert row["lo"] <= row["value"] <= row["hi"]
        assert row["seed_lo"] <= row["value"] <= row["seed_hi"]
        assert (row["samples_seen"], row["num_seeds"], len(row["runs"])) == (160, 2, 2)
        assert row["train_cpu_s"] > 0
        assert (row["gain"] is None) == (row["policy"] == "pool")
    kinds = {row["metric"]: row["interval"] for row in killed.rows}
    assert kinds == {"recall_at_5": "seeds and samples", "modality_gap": "seeds"}
    texts = {row["policy"]: row["num_texts"] for row in killed.rows}
    assert texts["pool"] > texts["curated"] > 0


def test_a_third_call_does_nothing_again(setting: Setting, results: tuple[Result, Result]) -> None:
    before = digests(setting.killed)
    said: list[str] = []
    again = ablate(setting.file, setting.killed, None, "serial", said.append)
    assert again.rows == results[0].rows
    assert digests(setting.killed) == before
    assert not any(line.startswith("train: step") for line in said)


def test_the_store_answers_and_is_what_it_was(setting: Setting, results: tuple[Result, Result], finished: Path) -> None:
    store = Store.open(setting.killed)
    table = ask(store, "select policy, metric, value, lo, hi from ablations").to_pylist()
    assert len(table) == len(results[0].rows)
    joined = ask(
        store,
        "select a.policy, avg(m.value) as value from ablations a, unnest(a.runs) as r(run) "
        "join metrics m on m.run = r.run and m.suite = a.suite and m.metric = a.metric "
        "and m.direction is not distinct from a.direction and m.language is null "
        "join models on models.run = m.run and models.samples_seen = a.samples_seen "
        "where a.metric = 'recall_at_5' group by a.policy",
    ).to_pylist()
    expected = {row["policy"]: row["value"] for row in results[0].rows if row["metric"] == "recall_at_5"}
    assert {row["policy"]: row["value"] for row in joined} == pytest.approx(expected)
    assert ask(store, "select count(*) as n from outcomes where measure = 'rank'").to_pylist()[0]["n"] > 0
    assert (setting.killed / "state.json").read_bytes() == (finished / "state.json").read_bytes()
    assert store.version_path().name.startswith("full-")


def test_the_plot_is_a_drawing_with_every_policy(results: tuple[Result, Result]) -> None:
    root = ET.fromstring((results[0].folder / "plot.svg").read_text())
    words = " ".join("".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text"))
    for part in ("pool", "curated", "first", "texts kept", "CPU-seconds", "recall_at_5", "chance"):
        assert part in words
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"policies": {"pool": "pol.yaml"}}, r"ablation\.yaml:\d+: policies\.pool: there is no file .*pol\.yaml"),
        ({"policies": {"pool": "nothing"}}, "has no selection or version 'nothing'"),
        ({"samples_seen": 100}, "100 is no multiple of the batch_size 16"),
        ({"samples_seen": 8}, "8 is no multiple of the batch_size 16"),
        ({"seeds": [0, 0]}, r"ablation\.yaml:\d+: seeds.*different"),
        ({"seeds": [2**70]}, r"ablation\.yaml:\d+: seeds.*below 2\^63"),
        ({"train": str(ROOT / "pretrain/configs/uni_then_cross.yaml")}, "has `stages`.*one budget.*without `stages`"),
        ({"train": "gone.yaml"}, r"train: there is no file .*gone\.yaml"),
        ({"evaluate": {"dataset": "../x/versions"}}, r"evaluate\.dataset: .* holds not one but these: none"),
        ({"evaluate": {"dataset": "unknown"}}, "has no version 'unknown'"),
        ({"metrics": []}, "metrics: no such field"),
    ],
)
def test_mistakes_end_before_anything_runs(setting: Setting, changes: dict[str, Any], said: str) -> None:
    path = write(setting.file.with_name("wrong-ablation.yaml"), **changes)
    with pytest.raises(ValueError, match=said):
        ablate(path, setting.undisturbed, None, "serial", lambda line: pytest.fail(line))


def test_a_figure_that_is_not_there_is_named(setting: Setting, results: tuple[Result, Result]) -> None:
    """After the first run, and not after the last."""
    path = write(setting.file.with_name("other.yaml"), figures=[{"suite": "held_out_languages", "metric": "recal"}])
    said: list[str] = []
    with pytest.raises(RecipeError, match=r"no figure 'held_out_languages recal'; it has: .*modality_gap"):
        ablate(path, setting.undisturbed, None, "serial", said.append)
    assert [line for line in said if line.startswith("ablate: run")] == ["ablate: run 1 of 6: pool, seed 0"]
    assert results[0].rows


def test_policies_that_keep_the_same_are_one_version_and_one_seed_has_no_seeds_to_draw(
    setting: Setting, results: tuple[Result, Result]
) -> None:
    """Trained on its own a copy would differ by its order alone, and the difference would look like a gain."""
    again = [{"rule": "any_text", "keep": "trim(text) <> '' and text is not null"}]
    (setting.file.parent / "again.yaml").write_text(yaml.safe_dump({"policy": again}))
    policies = {"pool": "pool.yaml", "again": "again.yaml"}
    said: list[str] = []
    found = ablate(write(setting.file.with_name("same.yaml"), policies=policies, seeds=[0]), setting.undisturbed, None,
                   "serial", said.append)  # fmt: skip
    assert any("again keeps what pool keeps: one version, pool-" in line for line in said)
    assert not any(line.startswith("train: step") for line in said)  # what the fixture trained serves both
    assert len({(row["version"], *row["runs"]) for row in found.rows}) == 1
    recall, gap = ([row for row in found.rows if row["metric"] == name] for name in ("recall_at_5", "modality_gap"))
    assert (recall[1]["gain"], recall[1]["gain_lo"], recall[1]["gain_hi"]) == (0, 0, 0)
    assert (gap[1]["gain"], gap[1]["gain_lo"], gap[1]["gain_hi"]) == (0, None, None)
    gains = {line["policy"]: line["gain"] for line in shown(found.rows)}
    assert gains == {"pool": "", "again": "keeps what pool keeps"}
    for row in found.rows:
        assert row["interval"] == "samples"
        assert row["lo"] < row["value"] < row["hi"]
        assert row["seed_lo"] == row["seed_hi"] == row["value"]
    assert len(results[0].rows) == 6


def test_a_policy_that_keeps_nothing_and_a_training_that_diverges_are_named(setting: Setting) -> None:
    nothing = [{"rule": "nothing", "keep": "text = 'no such text'"}]
    (setting.file.parent / "nothing.yaml").write_text(yaml.safe_dump({"policy": nothing}))
    path = write(setting.file.with_name("empty.yaml"), policies={"pool": "pool.yaml", "nothing": "nothing.yaml"})
    with pytest.raises(StoreError, match="the policy 'nothing' keeps nothing, so there is nothing to train on"):
        ablate(path, setting.undisturbed, None, "serial", lambda _: None)
    wild = spec(name="wild", decontamination="waived", lr=1e6, warmup_steps=20, max_grad_norm=1e9)
    (setting.file.parent / "wild-train.yaml").write_text(yaml.safe_dump(wild))
    path = write(setting.file.with_name("wild.yaml"), train="wild-train.yaml", policies={"pool": "pool.yaml"})
    said: list[str] = []
    with pytest.raises(RecipeError, match=r"wild\.yaml: the loss is nan at step \d; lower lr"):
        ablate(path, setting.undisturbed, None, "serial", said.append)
    assert "within warmup_steps 20: the learning rate never gets to lr 1e+06" in said[0]


def test_the_ablation_that_comes_with_the_demo_can_be_read(tmp_path: Path) -> None:
    version = tmp_path / "versions" / "clean-0"
    version.mkdir(parents=True)
    (version / "manifest.json").write_text(json.dumps({}))
    found = load_ablation(ROOT / "infra/demo/ablation/ablation.yaml", tmp_path, str(tmp_path / "versions"))
    assert list(found.policies) == ["pool", "curated"]
    assert found.evaluate.dataset == str(version)
    assert found.seeds == [0, 1, 2]
