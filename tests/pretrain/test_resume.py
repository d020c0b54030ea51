"""A run that is killed anywhere goes on as if nothing had happened: same losses, every sample of its order once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from tiny import config, logged, spec
from torch.multiprocessing.spawn import ProcessExitedException
from workers import spawn, train, train_until_killed

from pretrain.config import ConfigError
from pretrain.loop import METRICS_FILE, WEIGHTS_FILE, Job, read_lines
from pretrain.run import run_key
from pretrain.run import train as train_run
from pretrain.seen import SeenSamples
from pretrain.version import Version

NOT_LEARNED = {"samples_per_s", "cpu_s", "num_workers"}
ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {helpers!r})
from tiny import config
from pretrain.run import train
train(config(**{changes!r}), Path({store!r}), {address!r}, progress=lambda line: None)
"""


def start(store: Path, address: str, **changes: Any) -> subprocess.Popen[bytes]:
    """A driver in a process of its own."""
    text = DRIVER.format(helpers=str(Path(__file__).parent), changes=changes, store=str(store), address=address)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", text], env=environment, stderr=subprocess.DEVNULL)


def wait_for_step(driver: subprocess.Popen[bytes], folder: Path, step: int, seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while len(read_lines(folder / METRICS_FILE)) < step:
        assert driver.poll() is None, f"the driver ended with {driver.returncode} before step {step}"
        assert time.monotonic() < end, f"no step {step} after {seconds} s"
        time.sleep(0.02)


def folder_of(store: Path, version: Version, **changes: Any) -> Path:
    settings = config(**changes)
    return store.resolve() / "models" / f"{settings.name}-{run_key(settings, version.digest)[:12]}"


def same_weights(one: Path, other: Path) -> bool:
    found, expected = load_file(one / WEIGHTS_FILE), load_file(other / WEIGHTS_FILE)
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def every_sample_once_an_epoch(run: Path, steps: int, batch_size: int, num_samples: int) -> None:
    """The sample log: computed for every step, and equal to the digests that the workers logged when they saw them."""
    seen = SeenSamples(run)
    assert seen.steps() == list(range(1, steps + 1))
    samples = [sample for step in seen.steps() for sample in seen.of(step)]
    assert len(samples) == steps * batch_size
    counts = Counter((sample.epoch, sample.sample_uid) for sample in samples)
    assert set(counts.values()) == {1}
    whole = steps * batch_size // num_samples
    per_epoch = Counter(epoch for epoch, _ in counts)
    assert all(per_epoch[epoch] == num_samples for epoch in range(whole))


def test_a_killed_driver_goes_on_where_it_was_and_every_sample_is_seen_once(version: Version, store: Path) -> None:
    changes = {"steps": 120, "checkpoint_every": 7, "pictures": "streamed"}
    cut = folder_of(store, version, name="killed", **changes)
    driver = start(store, "serial", name="killed", **changes)
    wait_for_step(driver, cut, 16)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not (cut / WEIGHTS_FILE).exists()
    assert max(int(path.name[5:]) for path in (cut / "checkpoints").glob("step-*")) >= 7  # 14 may be being written
    killed = train_run(config(name="killed", **changes), store, "serial", progress=lambda _: None)
    whole = train_run(config(name="undisturbed", **changes), store, "serial", progress=lambda _: None)
    assert killed.folder == cut
    assert logged(cut, NOT_LEARNED) == logged(whole.folder, NOT_LEARNED)
    assert same_weights(cut, whole.folder)
    every_sample_once_an_epoch(cut, 120, 16, 40)
    with pytest.raises(ConfigError, match="no step 121 in its log"):
        SeenSamples(cut).of(121)
    lines = (cut / METRICS_FILE).read_text().splitlines(keepends=True)
    lines[9] = lines[9].replace('"samples_digest": ', '"samples_digest": 1')
    (cut / METRICS_FILE).write_text("".join(lines))
    with pytest.raises(ConfigError, match="step 10 says that other samples"):
        SeenSamples(cut).of(10)


def test_what_a_run_saw_is_told_in_a_store_that_was_moved(version: Version, tmp_path: Path) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    shutil.copytree(version.folder, first / "versions" / version.folder.name)
    run = train_run(config(name="moved", steps=3), first, "serial", progress=lambda _: None).folder
    there = SeenSamples(run).of(2)
    shutil.rmtree(first / "cache")  # which can be deleted at any time
    first.rename(moved)
    assert SeenSamples(moved / "models" / run.name).of(2) == there
    assert not first.exists()


@pytest.mark.slow
def test_loader_processes_end_with_a_killed_driver_and_change_nothing(version: Version, store: Path) -> None:
    changes = {"steps": 200, "checkpoint_every": 7, "pictures": "streamed", "loader_workers": 2}
    cut = folder_of(store, version, name="orphans", **changes)
    driver = start(store, "serial", name="orphans", **changes)
    wait_for_step(driver, cut, 16)
    started = psutil.Process(driver.pid).children(recursive=True)
    assert len(started) >= 3  # the fork server and two readers
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []
    changes["loader_workers"] = 0
    killed = train_run(config(name="orphans", **changes), store, "serial", progress=lambda _: None)
    whole = train_run(config(name="no-orphans", **changes), store, "serial", progress=lambda _: None)
    assert logged(killed.folder, NOT_LEARNED) == logged(whole.folder, NOT_LEARNED)


def job(version: Version, store: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    return vars(Job(spec(**changes), (str(version.folder),), str(folder), str(store / "cache")))


@pytest.mark.slow
def test_two_then_one_then_two_workers_see_what_two_would_have_seen(
    version: Version, store: Path, tmp_path: Path
) -> None:
    changes = {"steps": 30, "checkpoint_every": 4}
    settings = job(version, store, tmp_path / "changing", **changes)
    for size, last_step in ((2, 10), (1, 19), (2, 25)):
        with pytest.raises(ProcessExitedException, match="SIGKILL"):
            spawn(train_until_killed, tmp_path, size, settings, last_step)
    spawn(train, tmp_path, 2, settings)
    spawn(train, tmp_path, 2, job(version, store, tmp_path / "two", **changes))
    spawn(train_until_killed, tmp_path, 1, job(version, store, tmp_path / "one", **changes), 0)
    runs = {name: logged(tmp_path / name, NOT_LEARNED) for name in ("changing", "two", "one")}
    for line, two, one in zip(runs["changing"], runs["two"], runs["one"], strict=True):
        assert line["samples_digest"] == two["samples_digest"] == one["samples_digest"]
        assert line["loss"] == pytest.approx(two["loss"], abs=1e-4)
        assert line["loss"] == pytest.approx(one["loss"], abs=1e-4)
    assert runs["changing"][:8] == runs["two"][:8]  # before the first change: bit for bit


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_killed_ray_worker_and_a_killed_ray_driver(version: Version, store: Path) -> None:
    changes = {"steps": 600, "checkpoint_every": 10, "num_workers": 2, "captions_per_image": 4}
    whole = folder_of(store, version, name="ray-whole", **changes)
    assert start(store, "local", name="ray-whole", **changes).wait(timeout=240) == 0
    for victim in ("worker", "driver"):
        name = f"ray-{victim}"
        cut = folder_of(store, version, name=name, **changes)
        driver = start(store, "local", name=name, **changes)
        wait_for_step(driver, cut, 25)
        if victim == "driver":
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            assert not (cut / WEIGHTS_FILE).exists()
            driver = start(store, "local", name=name, **changes)
        else:
            _kill_a_train_worker(driver.pid)
        assert driver.wait(timeout=240) == 0
        assert logged(cut, NOT_LEARNED) == logged(whole, NOT_LEARNED)
        assert same_weights(cut, whole)
        every_sample_once_an_epoch(cut, 600, 16, 40)


def _kill_a_train_worker(driver: int) -> None:
    """Kill -9 one of the training processes that this driver's Ray started."""
    workers = [
        process
        for process in psutil.Process(driver).children(recursive=True)
        if "TrainWorker" in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE
    ]
    assert len(workers) == 2, [process.cmdline() for process in psutil.Process(driver).children(recursive=True)]
    workers[0].kill()
