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
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pretrain.checkpoint import load_checkpoint, save_checkpoint, save_weights
from pretrain.columns import read_column
from pretrain.config import TrainConfig, parse_config
from pretrain.data import Reader, training_samples
from pretrain.keyed import key
from pretrain.objective import Batch, Objective
from pretrain.pictures import cached_pictures
from pretrain.targets.gather import world
from pretrain.version import open_version

Metrics = dict[str, float | int]
METRICS_FILE = "metrics.jsonl"
WEIGHTS_FILE = "model.safetensors"
MIN_LR_SHARE = 0.01
"""Share of the peak learning rate that is left at the last step."""
BETA1 = 0.9


@dataclass(frozen=True)
class Job:
    """All that a worker needs, as plain values. config: the mapping form of a TrainConfig; folders: absolute paths."""

    config: dict[str, Any]
    version_folder: str
    run_folder: str
    cache_folder: str


def learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine down to `MIN_LR_SHARE` of the peak, for the update after `step` steps."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    return config.lr * (MIN_LR_SHARE + (1 - MIN_LR_SHARE) * (1 + math.cos(math.pi * done)) / 2)


def choose_device(wanted: str) -> torch.device:
    """The device of this worker: `auto` is the GPU where there is one."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count()))
    return torch.device(wanted)


def train_worker(job: Job, on_metrics: Callable[[Metrics], None] = lambda _: None, device: str | None = None) -> None:
    """Train to the end as one worker of the current process group (or alone). Rank 0 writes the run's files.

    `on_metrics` is called on rank 0 after each step is logged. Raises FloatingPointError where the loss is not finite.
    """
    config = parse_config(job.config)
    rank, num_workers = world()
    torch.set_num_threads(config.num_threads or max(1, (os.cpu_count() or 1) // num_workers))
    where = choose_device(device or config.device)
    torch.manual_seed(int(key("init", config.seed) >> 1))
    version = open_version(Path(job.version_folder))
    model = config.model.build(config.image_size)
    objective = Objective(model, config).to(where)
    pixels, is_whole = cached_pictures(Path(job.cache_folder), version, model.image_size, model.fit, model.resample)
    samples = training_samples(version, config)
    columns = {name: read_column(version, name) for name in config.columns()}
    reader = Reader(version.digest, samples.subset(is_whole[samples.rows]), pixels, config, model, columns)
    num_steps = config.num_steps(len(reader.samples))
    optimizer = torch.optim.AdamW(
        objective.parameter_groups(config.weight_decay), lr=config.lr, betas=(BETA1, config.beta2)
    )
    run = Path(job.run_folder)
    start = load_checkpoint(run / "checkpoints", objective, optimizer)
    stepper = DistributedDataParallel(objective, broadcast_buffers=False) if num_workers > 1 else objective
    log = _open_log(run / METRICS_FILE, start) if rank == 0 else None
    began = time.monotonic()
    with log if log is not None else contextlib.nullcontext():
        for step, batch in reader.batches(start, num_steps, rank, num_workers):
            # Any random layer (drop-out) draws the same numbers after a resumption.
            torch.manual_seed(int(key("step", config.seed, step, rank) >> 1))
            lr = learning_rate(step, num_steps, config)
            objective.set_progress(step / max(1, num_steps - 1))
            metrics = _step(stepper, objective, optimizer, batch.to(where), lr, config)
            done = step + 1
            seen = done * config.batch_size
            metrics |= {
                "step": done,
                "num_steps": num_steps,
                "epoch": seen // len(reader.samples),
                "position": seen % len(reader.samples),
                "lr": lr,
                "samples_per_s": (done - start) * config.batch_size / (time.monotonic() - began),
            }
            if not math.isfinite(metrics["loss"]):
                raise FloatingPointError(
                    f"the loss is {metrics['loss']} at step {done}; lower lr or the weight of a target"
                )
            if log is not None:
                log.write(json.dumps(metrics) + "\n")
                log.flush()
                on_metrics(metrics)
            if rank == 0 and (done % config.checkpoint_every == 0 or done == num_steps):
                save_checkpoint(run / "checkpoints", done, objective, optimizer)
    if rank == 0:
        save_weights(run / WEIGHTS_FILE, objective)
    if num_workers > 1:
        dist.barrier()


def _step(
    stepper: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    lr: float,
    config: TrainConfig,
) -> Metrics:
    """One update; the losses are means over all workers."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(batch.group_B.device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
        losses = stepper(batch)
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(objective.parameters(), config.max_grad_norm)
    optimizer.step()
    objective.after_step()
    names = sorted(losses)
    values = torch.stack([losses[name].detach() for name in names])
    if world()[1] > 1:
        dist.all_reduce(values)
        values /= world()[1]
    metrics: Metrics = dict(zip(names, values.tolist(), strict=True))
    metrics["grad_norm"] = float(norm)
    scales = [p for name, p in objective.targets.named_parameters() if name.endswith("log_scale")]
    if scales:
        metrics["logit_scale"] = float(scales[0].detach().exp())
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
