"""pretrain/launch.py: two Ray Train workers train as one process does."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from tiny import config

from pretrain.loop import METRICS_FILE, read_lines
from pretrain.run import train


@pytest.mark.ray
def test_two_ray_workers_train_as_one_process(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", helpers)  # workers import the project whether or not it is installed
    handler = signal.getsignal(signal.SIGTERM)
    said: list[str] = []
    two = train(config(name="two", num_workers=2, min_workers=1), store, "local", progress=said.append)
    one = train(config(name="one", num_workers=1), store, "serial", progress=lambda _: None)
    assert signal.getsignal(signal.SIGTERM) is handler
    losses = [[json.loads(line)["loss"] for line in read_lines(run.folder / METRICS_FILE)] for run in (one, two)]
    assert len(losses[1]) == 12
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert any("step 12/12" in line for line in said)
    assert not (two.folder / "ray").exists()
