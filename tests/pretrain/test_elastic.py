"""A cluster that loses a node and gains one while a run trains: fewer workers, then more, and the same samples."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_resume import every_sample_once_an_epoch
from tiny import logged

STEPS = 900
BEFORE_S = 300.0
"""Within which each thing must have come about. The steps are long enough that none is over before it has."""
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
SETTINGS: dict[str, Any] = {
    "name": "elastic", "steps": STEPS, "checkpoint_every": 20, "num_workers": 2, "min_workers": 1,
    "captions_per_image": 8, "pictures": "streamed", "image_size": 128,
}  # fmt: skip

DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {helpers!r})
from pretrain import launch
from pretrain.run import train
from tiny import config
launch.WORKER_CPUS, launch.RESIZE_S = 1, 2.0  # a node has room for one worker only
train(config(**{settings!r}), Path({store!r}), {address!r}, progress=lambda line: None)
"""


def start(store: Path, address: str) -> subprocess.Popen[bytes]:
    """A driver in a process of its own: it needs its main thread, and so does a cluster that starts a node."""
    helpers = str(Path(__file__).parent)
    text = DRIVER.format(helpers=helpers, settings=SETTINGS, store=str(store), address=address)
    return subprocess.Popen([sys.executable, "-c", text], stderr=subprocess.DEVNULL)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with a CPU each."""
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_AUTH_MODE", "disabled"), ("RAY_enable_metrics_collection", "0"),
        ("PYTHONPATH", str(Path(__file__).parents[2])),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    yield made
    made.shutdown()


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
def test_fewer_workers_when_a_node_goes_more_when_one_comes_and_every_sample_once(store: Path, cluster: Any) -> None:
    folders = store / "models"

    def last() -> dict[str, Any]:
        found = [logged(each) for each in folders.glob("elastic-*")]
        return found[0][-1] if found and found[0] else {"step": 0, "num_workers": 0}

    driver = start(store, cluster.address)
    try:
        until(lambda: last()["step"] >= 30, "30 steps")
        assert last()["num_workers"] == 2
        victim, at = a_worker(), last()["step"]
        assert victim is not None
        victim.kill()
        until(lambda: last()["step"] > at + 60, "steps after a worker was killed")
        assert last()["num_workers"] == 2  # its node lives
        cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
        until(lambda: last()["num_workers"] == 1, "one worker")
        cluster.add_node(**NODE)
        until(lambda: last()["num_workers"] == 2, "two workers again")
        assert driver.wait(timeout=BEFORE_S) == 0
    finally:
        driver.kill()
    (folder,) = folders.glob("elastic-*")
    sizes = [number for number, _ in itertools.groupby(line["num_workers"] for line in logged(folder))]
    assert sizes == [2, 1, 2]
    every_sample_once_an_epoch(folder, STEPS, 16, 40)
