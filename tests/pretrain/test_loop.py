"""pretrain/loop.py: a run cut off and resumed equals the undisturbed run; two processes equal one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import logged, spec
from workers import spawn, train

from pretrain.config import ConfigError, parse_config
from pretrain.loop import METRICS_FILE, WEIGHTS_FILE, Job, learning_rate, train_worker
from pretrain.objective import Objective
from pretrain.version import Version

TIMINGS = {"samples_per_s", "cpu_s"}


class Killed(Exception):
    """What cuts a run off."""


def job(version: Version, store: Path, folder: Path, **changes: Any) -> Job:
    return Job(spec(**changes), (str(version.folder),), str(folder), str(store / "cache"))


@pytest.fixture(scope="module")
def undisturbed(version: Version, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    train_worker(job(version, store, folder))
    return folder


@pytest.mark.parametrize("last_step", [3, 5, 11])
def test_resumed_losses_are_the_undisturbed_ones_bit_for_bit(
    version: Version, store: Path, undisturbed: Path, tmp_path: Path, last_step: int
) -> None:
    def kill(metrics: dict[str, float]) -> None:
        if metrics["step"] == last_step:
            raise Killed

    with pytest.raises(Killed):
        train_worker(job(version, store, tmp_path), kill)
    assert not (tmp_path / WEIGHTS_FILE).exists()
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 4, "lo')  # a line that the dying process left unfinished
    resumed: list[float] = []
    train_worker(job(version, store, tmp_path), lambda metrics: resumed.append(metrics["step"]))
    assert resumed[0] == (last_step - 1) // 5 * 5 + 1  # killed in the step before its checkpoint was written
    assert logged(tmp_path, TIMINGS) == logged(undisturbed, TIMINGS)
    weights, expected = load_file(tmp_path / WEIGHTS_FILE), load_file(undisturbed / WEIGHTS_FILE)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


def test_a_queue_a_momentum_model_an_average_and_pieces_are_resumed_too(
    version: Version, store: Path, tmp_path: Path
) -> None:
    targets = [
        {"use": "pretrain.targets.siglip.SigLIP", "chunk_rows": 8},
        {"use": "pretrain.targets.queue.MomentumQueue", "size": 48, "keep": 0.9, "embed_dim": 32, "weight": 0.5},
        {"use": "pretrain.targets.rank.RankConsistency", "weight": 0.1},
    ]
    changes = {"targets": targets, "ema": 0.9, "micro_batch": 8, "lora": {"layers": ["*.block.*"], "rank": 2}}
    train_worker(job(version, store, tmp_path / "whole", **changes))
    whole = logged(tmp_path / "whole", TIMINGS)
    assert whole[0]["1_MomentumQueue"] == 0  # nobody was there before
    assert whole[1]["1_MomentumQueue"] > 0
    assert (whole[0]["2_RankConsistency"], whole[1]["2_RankConsistency"] > 0) == (0, True)
    with pytest.raises(Killed):
        train_worker(job(version, store, tmp_path / "cut", **changes), _kill_at_6)
    train_worker(job(version, store, tmp_path / "cut", **changes))
    assert logged(tmp_path / "cut", TIMINGS) == whole
    weights, expected = (load_file(tmp_path / run / WEIGHTS_FILE) for run in ("cut", "whole"))
    assert weights.keys() == expected.keys()
    assert {name.partition(".")[0] for name in expected} == {"model", "momentum_model", "targets"}
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


@pytest.mark.slow  # test_launch.py shows the same of two workers on Ray
def test_two_processes_train_as_one(version: Version, store: Path, undisturbed: Path, tmp_path: Path) -> None:
    spawn(train, tmp_path, 2, vars(job(version, store, tmp_path / "run", num_workers=2)))
    one, two = logged(undisturbed, TIMINGS), logged(tmp_path / "run", TIMINGS)
    assert [line["step"] for line in two] == [line["step"] for line in one]
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], abs=1e-4)  # 1e-7 at first, grown over the steps
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], abs=1e-5)
    assert two[0]["grad_norm"] == pytest.approx(one[0]["grad_norm"], rel=1e-5)


def test_the_loss_falls_and_the_log_says_where_it_stands(undisturbed: Path) -> None:
    lines = logged(undisturbed, TIMINGS)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert lines[0]["loss"] > 3.4  # ln 31 or more: nothing is known yet
    assert lines[0]["logit_scale"] == pytest.approx(1 / 0.07, rel=0.01)
    assert (lines[-1]["epoch"], lines[-1]["position"]) == divmod(12 * 16, 40)


def test_a_checkpoint_of_another_model_is_refused(version: Version, store: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train_worker(job(version, store, tmp_path), _kill_at_6)
    other = spec()
    other["model"]["embed_dim"] = 16
    with pytest.raises(ValueError, match=r"does not fit.*projection"):
        train_worker(job(version, store, tmp_path, model=other["model"]))


def _kill_at_6(metrics: dict[str, float]) -> None:
    if metrics["step"] == 6:
        raise Killed


def test_a_loss_that_is_not_finite_ends_the_run(version: Version, store: Path, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step"):
        train_worker(job(version, store, tmp_path, lr=1e18, warmup_steps=0, max_grad_norm=1e30))


def test_a_gradient_that_is_not_finite_ends_the_run(version: Version, store: Path, tmp_path: Path) -> None:
    """Cut to a norm it would be 0, and the run would end well without having learned anything."""
    heavy = [{"use": "pretrain.targets.info_nce.InfoNCE", "weight": 1e30}]
    with pytest.raises(FloatingPointError, match="the norm of the gradient is inf at step 1; lower lr or the weight"):
        train_worker(job(version, store, tmp_path, targets=heavy))
    assert logged(tmp_path) == []


def test_bf16_trains_too(version: Version, store: Path, undisturbed: Path, tmp_path: Path) -> None:
    train_worker(job(version, store, tmp_path, precision="bf16", steps=3))
    assert logged(tmp_path, TIMINGS)[0]["loss"] == pytest.approx(logged(undisturbed, TIMINGS)[0]["loss"], abs=0.05)


def test_learning_rate_warms_up_and_comes_down() -> None:
    config = parse_config(spec(lr=1.0, warmup_steps=4, steps=20))
    rates = [learning_rate(step, 20, config) for step in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0.01 <= rates[-1] < 0.05
    linear, constant = (
        parse_config(spec(lr=1.0, warmup_steps=4, steps=20, schedule=s)) for s in ("linear", "constant")
    )
    assert [learning_rate(step, 20, constant) for step in (3, 4, 12, 19)] == [1.0] * 4
    assert learning_rate(12, 20, linear) == pytest.approx(0.505)
    assert learning_rate(19, 20, linear) == pytest.approx(0.01 + 0.99 / 16)


def test_at_step_0_gains_are_1_and_scales_do_not_decay() -> None:
    config = parse_config(spec())
    objective = Objective(config.model.build(16), config)
    gains = [m.weight for m in objective.modules() if isinstance(m, torch.nn.LayerNorm | torch.nn.GroupNorm)]
    assert gains
    assert all(bool((gain == 1).all()) for gain in gains)
    decayed, kept = (group["params"] for group in objective.parameter_groups(0.1))
    assert len(decayed) + len(kept) == len(list(objective.parameters()))
    scale = objective.get_parameter("targets.0_InfoNCE.log_scale")
    assert any(parameter is scale for parameter in kept)
    assert all(parameter.ndim >= 2 for parameter in decayed)


def test_a_where_that_holds_for_nothing_fails_before_training(version: Version, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of the 48"):
        train_worker(job(version, store, tmp_path, where=[{"column": "split", "equals": "nothing"}]))
