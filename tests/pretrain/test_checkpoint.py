"""pretrain/checkpoint.py: written beside the training, whole or not at all, and a failure is heard of."""

from __future__ import annotations

import resource
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import logged, spec

from pretrain import checkpoint
from pretrain.checkpoint import CheckpointError, Saver, load_checkpoint, newest
from pretrain.loop import Job, train_worker
from pretrain.version import Version


def trained(steps: int = 1) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(steps):
        step(module, optimizer)
    return module, optimizer


def step(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()


class Gate:
    """Holds the writing thread until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        write = checkpoint.save_file

        def held(*args: Any) -> None:
            self.entered.set()
            assert self.open.wait(20)
            write(*args)

        monkeypatch.setattr(checkpoint, "save_file", held)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    module, optimizer = trained()
    with Saver(tmp_path, module, optimizer) as saver:
        expected = {name: value.clone() for name, value in module.state_dict().items()}
        saver.save(1)
        assert gate.entered.wait(20)
        step(module, optimizer)  # what is written is the state of step 1 all the same
        saver.check()
        assert list(tmp_path.glob("step-*")) == []
        other, its_optimizer = trained(0)
        assert load_checkpoint(tmp_path / "elsewhere", other, its_optimizer) == 0
        gate.open.set()
    assert newest(tmp_path).name == "step-00000001"
    assert load_checkpoint(tmp_path, other, its_optimizer) == 1
    assert all(torch.equal(other.state_dict()[name], value) for name, value in expected.items())
    step(other, its_optimizer)  # with the optimizer's state
    assert all(torch.equal(other.state_dict()[name], value) for name, value in module.state_dict().items())
    for number in (2, 3, 4):
        with Saver(tmp_path, module, optimizer) as saver:
            saver.save(number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]
    for number, keep, there in ((5, 1, ["step-00000005"]), (6, None, ["step-00000005", "step-00000006"])):
        with Saver(tmp_path, module, optimizer, keep=keep) as saver:
            saver.save(number)
        assert sorted(path.name for path in tmp_path.iterdir()) == there


def test_a_write_that_was_cut_off_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, optimizer = trained()
    with Saver(tmp_path, module, optimizer) as saver:
        saver.save(1)
    gate = Gate(monkeypatch)
    saver = Saver(tmp_path, module, optimizer)
    saver.save(2)
    assert gate.entered.wait(20)
    other, its_optimizer = trained(0)
    assert load_checkpoint(tmp_path, other, its_optimizer) == 1  # as a run does that finds what a killed one left
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    gate.open.set()
    with pytest.raises(CheckpointError, match="no checkpoint could be written"):
        saver.wait()  # its folder was cleared away


def test_a_disk_that_is_full_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    module = torch.nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(module.parameters())
    with Saver(tmp_path, module, optimizer) as saver:
        saver.save(1)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    saver = Saver(tmp_path, module, optimizer)
    try:
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (100_000, usual[1])
        )  # no file may grow beyond: the write fails half way
        saver.save(2)
        with pytest.raises(CheckpointError, match=r"no checkpoint could be written to .*File too large"):
            saver.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]  # and nothing half written
    assert load_checkpoint(tmp_path, module, optimizer) == 1
    saver.save(2)
    saver.wait()
    damaged = newest(tmp_path) / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"step-00000002 is damaged .*remove it to go on from the one before"):
        load_checkpoint(tmp_path, module, optimizer)


def test_a_checkpoint_that_cannot_be_written_ends_the_run(version: Version, store: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    job = Job(spec(checkpoint_every=2, steps=500), (str(version.folder),), str(tmp_path), str(store / "cache"))
    with pytest.raises(CheckpointError, match=r"checkpoints: .*exists"):
        train_worker(job)
    assert 2 <= len(logged(tmp_path)) <= 4
