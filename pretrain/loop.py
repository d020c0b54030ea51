"""The training loop: what each worker runs, alone or in a process group. Knows nothing of Ray.

Killed at any time and started again it continues from the newest checkpoint, and on the CPU with the same number of
workers the losses are those of an undisturbed run, bit for bit.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from pretrain.build import build_objective, final_tensors
from pretrain.checkpoint import Saver, load_checkpoint, newest, save_weights
from pretrain.config import TrainConfig, parse_config
from pretrain.data import Reader
from pretrain.dataset import open_data
from pretrain.engine import Engine, mean_over_workers
from pretrain.keyed import key
from pretrain.loader import Loader, Ready
from pretrain.objective import Objective
from pretrain.rows import MEDIA
from pretrain.targets.gather import world

Metrics = dict[str, float | int]
METRICS_FILE = "metrics.jsonl"
WEIGHTS_FILE = "model.safetensors"
MIN_LR_SHARE = 0.01
"""Share of the peak learning rate that is left at the last step."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs, as plain values. config: the mapping form of a TrainConfig; folders: absolute paths;
    version_folders: absolute paths or URIs, the config's own version first, then those of its mixture."""

    config: dict[str, Any]
    version_folders: tuple[str, ...]
    run_folder: str
    cache_folder: str


def learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then the schedule down to `MIN_LR_SHARE` of the peak, for the update after `step` steps."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    left = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.lr * (MIN_LR_SHARE + (1 - MIN_LR_SHARE) * left)


def choose_device(wanted: str) -> torch.device:
    """The device of this worker: `auto` is the GPU where there is one."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count()))
    return torch.device(wanted)


def train_worker(job: Job, on_metrics: Callable[[Metrics], None] = lambda _: None, device: str | None = None) -> None:
    """Train to the end as one worker of the current process group (or alone). Rank 0 writes the run's files.

    `on_metrics` is called on rank 0 after each step is logged. Raises FloatingPointError where the loss or its
    gradient is not finite.
    """
    config = parse_config(job.config)
    rank, num_workers = world()
    torch.set_num_threads(config.num_threads or max(1, (os.cpu_count() or 1) // num_workers))
    where = choose_device(device or config.device)
    torch.manual_seed(int(key("init", config.seed) >> 1))
    model = config.model.build(config.image_size)
    data = open_data(
        config,
        [Path(place) if "://" not in place else place for place in job.version_folders],
        Path(job.cache_folder),
        model,
    )
    objective = build_objective(model, config).to(where)
    engine = Engine(objective, config, where)
    loader = Loader(data.reader, model, data.columns, config, where)
    num_steps = config.num_steps(len(data.reader.sources[0]))
    run = Path(job.run_folder)
    checkpoints = run / "checkpoints"
    start = load_checkpoint(checkpoints, objective, engine.optimizer, engine.is_sharded)
    engine.distribute()
    log = _open_log(run / METRICS_FILE, start) if rank == 0 else None
    began, cpu_s = time.monotonic(), time.process_time()
    saver = Saver(checkpoints, objective, engine.optimizer, engine.is_sharded, config.checkpoints_kept)
    with saver, log if log is not None else contextlib.nullcontext():
        for ready in loader.batches(start, num_steps, rank, num_workers):
            lr = learning_rate(ready.step, num_steps, config)
            objective.set_progress(ready.step / max(1, num_steps - 1))
            losses, norm = engine.step(ready, lr)
            done = ready.step + 1
            before, cpu_s = cpu_s, time.process_time()
            metrics = (
                _shared(objective, ready, losses, norm, cpu_s - before)
                | _where(done, num_steps, config, data.reader)
                | {"lr": lr}
            )
            metrics["samples_per_s"] = (done - start) * config.batch_size / (time.monotonic() - began)
            for name, kind in (("loss", "loss"), ("grad_norm", "norm of the gradient")):
                if not math.isfinite(metrics[name]):  # cut to a norm, such a gradient is 0 or no number
                    raise FloatingPointError(
                        f"the {kind} is {metrics[name]} at step {done}; lower lr or the weight of a target"
                    )
            if log is not None:
                log.write(json.dumps(metrics) + "\n")
                log.flush()
                on_metrics(metrics)
            saver.check()
            due = done % config.checkpoint_every == 0 or done == num_steps
            if due and (rank == 0 or engine.is_sharded):
                saver.save(done)
    if rank == 0:
        last = load_file(newest(checkpoints) / "model.safetensors")
        save_weights(run / WEIGHTS_FILE, final_tensors(config, last))
    if num_workers > 1:
        dist.barrier()


def _shared(objective: Objective, ready: Ready, losses: dict[str, Tensor], norm: Tensor, cpu_s: float) -> Metrics:
    """What all workers together say of a step: means of the losses, the digest of its samples, CPU-seconds (of the
    workers themselves, not of processes that read for them)."""
    names = sorted(losses)
    means = mean_over_workers(torch.stack([losses[name].detach() for name in names]))
    metrics: Metrics = dict(zip(names, means.tolist(), strict=True))
    metrics["grad_norm"] = float(norm)
    scales = [p for name, p in objective.targets.named_parameters() if name.endswith("log_scale")]
    if scales:
        metrics["logit_scale"] = float(scales[0].detach().exp())
    # int64 wraps round, so a sum over workers is the sum modulo 2^64
    signed = ready.samples_digest - (1 << 64 if ready.samples_digest >= 1 << 63 else 0)
    damaged = [ready.num_damaged.get(name, 0) for name in MEDIA]
    numbers = [signed, round(cpu_s * 1e6), *damaged]
    counts = torch.tensor(numbers, dtype=torch.int64, device=means.device)
    if world()[1] > 1:
        dist.all_reduce(counts)
    metrics["samples_digest"] = int(counts[0]) % (1 << 64)
    metrics["num_workers"] = world()[1]
    metrics["cpu_s"] = int(counts[1]) / 1e6
    for name, count in zip(MEDIA, counts[2:].tolist(), strict=True):
        if count:
            metrics[f"{name}s_missing"] = count
    return metrics


def _where(done: int, num_steps: int, config: TrainConfig, reader: Reader) -> Metrics:
    """How far the run is; epoch and position of the config's own version where it is the only one."""
    seen = done * config.batch_size
    metrics: Metrics = {"step": done, "num_steps": num_steps, "samples_seen": seen}
    if len(reader.sources) == 1:
        metrics["epoch"], metrics["position"] = divmod(seen, len(reader.sources[0]))
    return metrics


def _open_log(path: Path, step: int) -> TextIO:
    """The metrics log, cut back to the checkpoint from which training goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [line for line in read_lines(path) if json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return path.open("a", encoding="utf-8")


def read_lines(path: Path) -> list[str]:
    """Whole lines of a log; a last line that a killed process left unfinished is not one."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()
