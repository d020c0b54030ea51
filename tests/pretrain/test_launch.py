"""pretrain/launch.py: two Ray Train workers train as one process does."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from test_gradcache import TRANSFORMER
from tiny import config, logged, uid

from pretrain.loop import WEIGHTS_FILE
from pretrain.run import train


@pytest.mark.ray
def test_two_ray_workers_train_as_one_process(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a file that the config names as it lies beside it: Ray's workers run in folders of their own."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"sample_uid": [uid("sample", number) for number in range(40)]}), "subset.parquet")
    helpers = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", helpers)  # workers import the project whether or not it is installed
    handler = signal.getsignal(signal.SIGTERM)
    said: list[str] = []
    subset = {"subset": "subset.parquet"}
    two = train(config(name="two", num_workers=2, min_workers=1, **subset), store, "local", progress=said.append)
    one = train(config(name="one", num_workers=1, **subset), store, "serial", progress=lambda _: None)
    assert signal.getsignal(signal.SIGTERM) is handler
    losses = [[line["loss"] for line in logged(run.folder)] for run in (one, two)]
    assert len(losses[1]) == 12
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert any("step 12/12" in line for line in said)
    assert not (two.folder / "ray").exists()


@pytest.mark.ray
def test_what_a_ray_worker_says_is_what_training_says(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    wild = config(name="wild", num_workers=2, lr=1e18, warmup_steps=0, max_grad_norm=1e30)
    with pytest.raises(FloatingPointError, match=r"^the loss is nan at step \d; lower lr"):
        train(wild, store, "local", progress=lambda _: None)


@pytest.mark.slow
@pytest.mark.ray
def test_two_ray_workers_with_half_of_the_model_each_train_as_one_process(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSDP2 through Ray Train, with an average and activations computed anew."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    changes: dict[str, Any] = {"ema": 0.9, "model": TRANSFORMER, "activation_checkpointing": True}
    two = train(config(name="half", num_workers=2, sharding="fsdp", **changes), store, "local", progress=lambda _: None)
    one = train(config(name="all", **changes), store, "serial", progress=lambda _: None)
    losses = [[line["loss"] for line in logged(run.folder)] for run in (one, two)]
    assert losses[1] == pytest.approx(losses[0], abs=2e-4)
    assert load_file(two.folder / WEIGHTS_FILE).keys() == load_file(one.folder / WEIGHTS_FILE).keys()
