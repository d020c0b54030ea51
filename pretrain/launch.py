"""Where training workers run: in this process, or as Ray Train workers. The only module here that knows Ray."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pretrain.checkpoint import CheckpointError
from pretrain.config import ConfigError, TrainConfig
from pretrain.loader import LoaderError
from pretrain.loop import METRICS_FILE, Job, Metrics, read_lines, train_worker
from pretrain.version import VersionError

SERIAL = "serial"
WORKER_CPUS = 0.25
"""CPUs that a worker reserves. Workers that reserve whole CPUs starve whatever else runs on the same cluster, and with
every CPU reserved a run can hang silently; threads are set by the loop, not by this."""
OBJECT_STORE_BYTES = 200_000_000
"""Of a local Ray: training keeps nothing in it."""
MAX_FAILURES = 2
"""Restarts of the group of workers after one dies; each goes on from the newest checkpoint."""
MAX_NODES_LOST = 50
"""The same where the number of workers may change: a node that goes counts as a failure, one that comes does not."""
RESIZE_S = 60.0
"""Seconds between looks whether there is room for more workers (Ray's default): each change costs a restart."""
POLL_S = 0.5


def check_workers(config: TrainConfig, address: str | None) -> None:
    """Raises ConfigError where there are to be more workers than the address runs, or a GPU that is not there."""
    if not (address is None or address == SERIAL):
        return  # what a cluster has is its own matter
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': this machine has no GPU that torch can use; say auto or cpu")
    if (config.min_workers or config.num_workers) != 1:
        raise ConfigError(
            f"num_workers = {config.num_workers}: needs Ray (`--address local`, or a cluster's); `serial` runs one "
            "worker in this process"
        )


def launch(
    job: Job,
    num_workers: int,
    use_gpu: bool,
    address: str | None,
    on_metrics: Callable[[Metrics], None],
    min_workers: int | None = None,
) -> None:
    """Run `num_workers` workers to the end; `on_metrics` is called in this process with every logged step.

    min_workers: so many are enough to start and to go on with; when nodes come or go, Ray starts the group anew with as
    many as there is room for, up to `num_workers`, from the newest checkpoint. None: always `num_workers`.

    address: None or `serial` for one worker in this process; `local` for a Ray of our own; else a cluster's address
    (the run's folder must then be on storage that its nodes share). Raises what a worker raised that says what is
    wrong (FloatingPointError, ConfigError and the like), or RuntimeError where training failed in another way.
    """
    if address is None or address == SERIAL:
        train_worker(job, on_metrics)
        return
    # Ray reads these when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with _ray(address), _following(Path(job.run_folder) / METRICS_FILE, on_metrics):
        _fit(job, num_workers, use_gpu, min_workers)


def _fit(job: Job, num_workers: int, use_gpu: bool, min_workers: int | None) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    is_elastic = min_workers is not None and min_workers < num_workers
    resources = {"CPU": WORKER_CPUS, **({"GPU": 1} if use_gpu else {})}
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": vars(job), "device": "cuda" if use_gpu else "cpu"},
        scaling_config=ScalingConfig(
            num_workers=(min_workers, num_workers) if is_elastic else num_workers,
            use_gpu=use_gpu,
            resources_per_worker=resources,
            elastic_resize_monitor_interval_s=RESIZE_S,
        ),
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        run_config=RunConfig(
            # A name used before resumes that run, so it is the run's id.
            name=Path(job.run_folder).name,
            storage_path=str(Path(job.run_folder).resolve() / "ray"),
            failure_config=FailureConfig(max_failures=MAX_NODES_LOST if is_elastic else MAX_FAILURES),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        said = _of_workers(error)
        if isinstance(said, FloatingPointError | CheckpointError | ConfigError | VersionError | LoaderError):
            raise said from None  # what a single worker in this process would have told
        raise RuntimeError(f"training of {job.run_folder} failed: {said or error}") from error


def _of_workers(error: Exception) -> Exception | None:
    """What the first worker that failed said; None where none did."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    return failures[min(failures)] if failures else None


def _worker(settings: dict[str, Any]) -> None:
    """What each Ray Train worker runs, its process group being set up."""
    train_worker(Job(**settings["job"]), device=settings["device"])


@contextmanager
def _ray(address: str) -> Iterator[None]:
    """A Ray that is up; shut down afterwards only if it was started here."""
    import ray

    if ray.is_initialized():
        yield
        return
    # ray.init puts a handler of its own on SIGTERM, after which Prefect's cancelling no longer reaches this process.
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    ray.init(
        address=address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        **(own if address == "local" else {}),  # a running cluster refuses these
    )
    if in_main_thread and handler is not None:
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _following(path: Path, on_metrics: Callable[[Metrics], None]) -> Iterator[None]:
    """Call `on_metrics` with each new line of the log that rank 0 writes; a repeated step is reported once."""
    stop = threading.Event()
    last = max((json.loads(line)["step"] for line in read_lines(path)), default=0)

    def drain() -> None:
        nonlocal last
        for line in read_lines(path):
            metrics = json.loads(line)
            if metrics["step"] > last:
                last = metrics["step"]
                on_metrics(metrics)

    def follow() -> None:
        while not stop.wait(POLL_S):
            drain()

    thread = threading.Thread(target=follow, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        drain()
