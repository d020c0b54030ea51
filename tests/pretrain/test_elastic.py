"""A cluster that loses a node and gains one while a run trains: fewer workers, then more, and the same samples."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_resume import every_sample_once_an_epoch
from tiny import config

from pretrain import launch
from pretrain.loop import METRICS_FILE, read_lines
from pretrain.run import train

STEPS = 900
BEFORE_S = 300.0
"""Within which each thing must have come about. The steps are long enough that none is over before it has."""
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
SETTINGS: dict[str, Any] = {
    "name": "elastic", "steps": STEPS, "checkpoint_every": 20, "num_workers": 2, "min_workers": 1,
    "captions_per_image": 8, "pictures": "streamed", "image_size": 128,
}  # fmt: skip


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with a CPU each, and this process connected to them."""
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_AUTH_MODE", "disabled"), ("RAY_enable_metrics_collection", "0"),
        ("PYTHONPATH", str(Path(__file__).parents[2])),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_lines(folder / METRICS_FILE)]


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + BEFORE_S
    while not holds():
        assert time.monotonic() < end, f"not within {BEFORE_S:.0f} s: {what}"
        time.sleep(0.1)


def a_worker() -> psutil.Process | None:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "RayTrainWorker" in " ".join(process.cmdline()) and psutil.Process() in process.parents():
                return process
    return None


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_fewer_workers_when_a_node_goes_more_when_one_comes_and_every_sample_once(
    store: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "WORKER_CPUS", 1)  # so that a node has room for one worker only
    monkeypatch.setattr(launch, "RESIZE_S", 2.0)
    folders = store / "models"
    said: list[str] = []

    def last() -> dict[str, Any]:
        found = [logged(each) for each in folders.glob("elastic-*")]
        return found[0][-1] if found and found[0] else {"step": 0, "num_workers": 0}

    def disturb() -> None:
        try:
            until(lambda: last()["step"] >= 30, "30 steps")
            said.append(f"{last()['num_workers']} workers, one is killed")
            found = a_worker()
            assert found is not None
            at = last()["step"]
            found.kill()
            until(lambda: last()["step"] > at + 60, "steps after a worker was killed")
            said.append(f"{last()['num_workers']} workers, a node goes")
            cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
            until(lambda: last()["num_workers"] == 1, "one worker")
            cluster.add_node(**NODE)
            said.append("1 worker, a node comes")
            until(lambda: last()["num_workers"] == 2, "two workers again")
            said.append("2 workers again")
        except AssertionError as error:
            said.append(str(error))

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    result = train(config(**SETTINGS), store, "local", progress=lambda _: None)
    thread.join()
    assert said == [
        "2 workers, one is killed", "2 workers, a node goes", "1 worker, a node comes", "2 workers again",
    ]  # fmt: skip
    sizes = [number for number, _ in itertools.groupby(line["num_workers"] for line in logged(result.folder))]
    assert sizes == [2, 1, 2]
    every_sample_once_an_epoch(result.folder, STEPS, 16, 40)
