"""pretrain/stages.py, frozen.py, lora.py, build.py: stages in turn, what stays frozen, and low-rank updates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import sample, spec, write_version
from torch.multiprocessing.spawn import ProcessExitedException
from workers import spawn, train_stages_until

from pretrain.build import build_objective
from pretrain.config import ConfigError, parse_config
from pretrain.keyed import key
from pretrain.lora import merge_lora
from pretrain.objective import Objective
from pretrain.run import RunResult
from pretrain.stages import Stage, load_stages, parse_stages, train_stages


def quiet(_: str) -> None:
    """No progress."""


def staged(**changes: Any) -> dict[str, Any]:
    stages = [
        {"stage": "locked", "freeze": ["model.streams.image.*"], "steps": 4},
        {"stage": "low-rank", "freeze": ["model.*"], "lora": {"layers": ["*.block.0", "*.projection"], "rank": 2}},
        {"stage": "replay", "mixture": [{"version": "old", "share": 0.25}], "steps": 4, "ema": 0.5, "lr": 0.001},
    ]
    return spec(**{"name": "staged", "steps": 3, "version": "tiny", "stages": stages, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunResult]]:
    root = with_versions(tmp_path_factory.mktemp("staged"))
    return root, train_stages(parse_stages(staged()), root, "serial", progress=quiet)


def with_versions(root: Path) -> Path:
    for name, numbers in (("tiny", range(24)), ("old", range(100, 124))):
        folder = write_version(root, [sample(n) for n in numbers], name=name).folder
        folder.rename(folder.with_name(name))
    return root


def weights(run: RunResult) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "model.safetensors")


@pytest.mark.family("F27")
def test_frozen_weights_are_the_same_bits_and_others_are_not(trained: tuple[Path, list[RunResult]]) -> None:
    _, (first, second, _) = trained
    config = parse_config({**spec(), "name": "x"})
    torch.manual_seed(int(key("init", 0) >> 1))
    start = {f"model.{name}": value for name, value in config.model.build(16).state_dict().items()}
    after = weights(first)
    for name, value in start.items():
        assert torch.equal(value, after[name]) == (name.startswith("model.streams.image.") or value.numel() == 0), name
    adapted = weights(second)
    changed = {name for name, value in adapted.items() if not torch.equal(value, after[name])}
    linear = {
        f"model.streams.{s}.{part}.weight" for s in ("image", "text") for part in ("encoder.block.0", "projection")
    }
    assert changed == linear | {"targets.0_InfoNCE.log_scale"}
    assert adapted.keys() == after.keys()  # merged: an ordinary model


@pytest.mark.family("F27")
def test_each_stage_says_what_came_before_and_is_reused(trained: tuple[Path, list[RunResult]]) -> None:
    root, runs = trained
    facts = [json.loads((run.folder / "stage.json").read_text()) for run in runs]
    results = [json.loads((run.folder / "result.json").read_text()) for run in runs]
    assert [fact["parent_run"] for fact in facts] == [None, runs[0].folder.name, runs[1].folder.name]
    assert [each["init_sha256"] for each in results] == [None, runs[0].weights_sha256, runs[1].weights_sha256]
    assert results[2]["mixed_versions"][0]["version"] == "old"
    again = train_stages(parse_stages(staged()), root, "serial", progress=quiet)
    assert [run.reused for run in again] == [True, True, True]
    other = staged()
    other["stages"][0]["steps"] = 5
    changed = train_stages(parse_stages(other)[:2], root, "serial", progress=quiet)
    assert [run.reused for run in changed] == [False, False]  # the second starts from other weights


@pytest.mark.slow
@pytest.mark.family("F27")
def test_stages_killed_between_and_within_go_on_to_the_same_weights(
    trained: tuple[Path, list[RunResult]], tmp_path: Path
) -> None:
    root = with_versions(tmp_path / "store")
    for line, num_done in (("stage low-rank", 1), ("step 1/4", 2)):
        with pytest.raises(ProcessExitedException, match="SIGKILL"):
            spawn(train_stages_until, tmp_path, 1, staged(), str(root), line)
        assert len([*root.glob("models/*/result.json")]) == num_done
    runs = train_stages(parse_stages(staged()), root, "serial", progress=quiet)
    assert [run.reused for run in runs] == [True, True, False]
    assert [run.weights_sha256 for run in runs] == [run.weights_sha256 for run in trained[1]]
    assert all((run.folder / "stage.json").is_file() for run in runs)


def test_the_run_leaves_the_average(trained: tuple[Path, list[RunResult]]) -> None:
    """Of a run with `ema`: what `tamis eval` loads is the average, not the last weights."""
    from pretrain.loop import Job, train_worker

    root, runs = trained
    facts = json.loads((runs[2].folder / "data.json").read_text())
    settings = json.loads((runs[2].folder / "config.json").read_text())
    again = root / "again"
    train_worker(Job(settings, tuple(facts["versions"]), str(again), facts["cache"]))
    (last,) = [each for each in (again / "checkpoints").iterdir() if each.name == "step-00000004"]
    state, left = load_file(last / "model.safetensors"), weights(runs[2])
    names = [name for name in left if name.startswith("model.") and left[name].is_floating_point()]
    assert all(torch.equal(left[name], state[f"averaged_{name}"]) for name in names)
    assert any(not torch.equal(left[name], state[name]) for name in names)


def test_faults_name_the_stage_and_the_field() -> None:
    for change, message in (
        ({"freze": []}, r"stages\[1\].*freze = .*no such field"),
        ({"stage": "a"}, r"there is a stage 'a' already"),
        ({"targets": [{"use": "pretrain.targets.nothing.At"}]}, r"stages\[1\].*cannot be imported"),
    ):
        with pytest.raises(ConfigError, match=f"(?s){message}"):
            parse_stages(spec(stages=[{"stage": "a"}, {"stage": "b", **change}]))
    with pytest.raises(ConfigError, match="no stage before the first"):
        parse_stages(spec(stages=[{"init": "before"}]))
    with pytest.raises(ConfigError, match="at least one"):
        parse_stages(spec(stages=[]))


def test_a_stage_may_count_in_epochs_where_the_base_counts_in_steps(tmp_path: Path) -> None:
    (first, second) = parse_stages(spec(stages=[{"epochs": 2}, {"init": "fresh"}]))
    assert (first.config.steps, first.config.epochs, second.config.steps) == (None, 2, 12)
    assert (first.starts_before, second.starts_before) == (False, False)
    file = tmp_path / "one.yaml"
    file.write_text(json.dumps(spec()))
    (only,) = load_stages(file)
    assert only == Stage("all", parse_config(spec()), False)


def objective(**changes: Any) -> Objective:
    config = parse_config(spec(**changes))
    torch.manual_seed(0)
    return build_objective(config.model.build(config.image_size), config)


def test_merged_low_rank_updates_compute_what_they_did() -> None:
    made = objective(lora={"layers": ["*"], "rank": 3, "alpha": 5})
    plain = objective()
    pixels = torch.rand(2, 3, 16, 16)
    before = made.model.encode("image", {"image_BCHW": pixels})
    assert torch.equal(before, plain.model.encode("image", {"image_BCHW": pixels}))  # B = 0 at the start
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(".0.b"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    adapted = made.model.encode("image", {"image_BCHW": pixels})
    assert not torch.allclose(adapted, before, atol=1e-3)
    merge_lora(made.model)
    assert made.model.state_dict().keys() == plain.model.state_dict().keys()
    assert torch.equal(made.model.encode("image", {"image_BCHW": pixels}), adapted)


def test_only_low_rank_updates_and_what_is_not_frozen_are_trained() -> None:
    made = objective(lora={"layers": ["*.projection"]}, freeze=["model.*"])
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert {name.partition(".parametrizations.")[2] for name in trained} == {"", "weight.0.a", "weight.0.b"}
    assert len(trained) == 5  # two matrices of two layers, and the scale
    with pytest.raises(ConfigError, match=r"'\*.nothing' matches no linear layer; there are: .*projection"):
        objective(lora={"layers": ["*.nothing"]})
    with pytest.raises(ConfigError, match=r"freeze: 'models\.\*' matches no parameter; there are: model\.streams"):
        objective(freeze=["models.*"])
    with pytest.raises(ConfigError, match="nothing is left to train"):
        objective(freeze=["*"])


def test_the_average_follows_the_weights() -> None:
    made = objective(ema=0.75)
    assert made.averaged_model is not None
    before = {name: value.clone() for name, value in made.averaged_model.state_dict().items()}
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(1.0)
    made.after_step()
    for name, value in made.averaged_model.state_dict().items():
        torch.testing.assert_close(value, before[name] + (0.25 if value.is_floating_point() and value.ndim else 0))
