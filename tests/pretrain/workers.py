"""What spawned gloo processes run in these tests."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pretrain.embeddings.base import Tokens
from pretrain.targets.base import Encoded, Target
from pretrain.targets.info_nce import InfoNCE
from pretrain.targets.prototypes import PrototypesLoss
from pretrain.targets.queue import MomentumQueueLoss


def join(rank: int, size: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)


Raw = dict[str, torch.Tensor]
COLUMNS = ("teacher_image", "teacher_text", "cluster_image", "cluster_text", "score", "level")


class TwoTowers(torch.nn.Module):
    """Two linear maps and a target: the least that has gradients on both sides and a scale."""

    def __init__(self, target: Target | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = torch.nn.Linear(6, 5), torch.nn.Linear(7, 5)
        model: Any = SimpleNamespace(embed_dim=5, trained_log_scale=lambda: None, parts=lambda: None)
        self.loss: Any = (target or InfoNCE(log_scale=2.0)).build_for(model)
        self.loss.set_progress(1.0)
        if isinstance(self.loss, PrototypesLoss):
            for side in ("a", "b"):
                prototypes = self.loss.get_buffer(f"prototype_student_{side}")
                prototypes.copy_(torch.randn(prototypes.shape, generator=torch.Generator().manual_seed(6)))
                self.loss.get_buffer(f"is_there_{side}")[:3] = True
        if isinstance(self.loss, MomentumQueueLoss):
            generator = torch.Generator().manual_seed(5)
            for queue in (self.loss.queue_a, self.loss.queue_b):
                queue.copy_(_unit(torch.randn(queue.shape, generator=generator)))
            self.loss.queue_group[:10] = torch.arange(10)

    def encode(self, raw: Raw, keep: torch.Tensor | None = None) -> Encoded:
        """The batch; of `keep` only those rows."""
        if keep is not None:
            raw = {name: value[keep] for name, value in raw.items()}
        tokens = {}
        for stream, tower in (("image", self.a), ("text", self.b)):
            mask = raw[f"{stream}_mask"]
            longest = int(mask.sum(dim=1).max())
            tokens[stream] = Tokens(_unit(tower(raw[f"{stream}_tokens"][:, :longest])), mask[:, :longest])
        return Encoded(
            {"image": _unit(self.a(raw["x"])), "text": _unit(self.b(raw["y"]))},
            raw["group"],
            columns={name: raw[name] for name in COLUMNS},
            tokens=tokens,
            keys={"image": _unit(raw["key_image"]), "text": _unit(raw["key_text"])},
            present={"text": raw["has_text"]} if "has_text" in raw else {},
        )

    def forward(self, raw: Raw) -> torch.Tensor:
        loss: torch.Tensor = self.loss(self.encode(raw))
        return loss


def _unit(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def encoded_batch(lacks: bool = False) -> Raw:
    """12 rows of 5 groups, groups lying across the two workers' halves; the second half has the longer texts.

    lacks: of the first half 5 rows have a text, of the second 2.
    """
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(12, *shape, generator=generator)

    lengths = torch.tensor([1, 2, 1, 2, 2, 1, 3, 1, 2, 4, 1, 2])
    has_text = torch.tensor([1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1], dtype=torch.bool)
    return {
        **({"has_text": has_text} if lacks else {}),
        "x": draw(6),
        "y": draw(7),
        "group": torch.tensor([0, 0, 1, 1, 2, 3, 0, 3, 3, 4, 4, 1]),
        "teacher_image": draw(3),
        "teacher_text": draw(3),
        "cluster_image": torch.tensor([0, 1, 2, 3] * 3).float(),
        "cluster_text": torch.tensor([0, 1, 2] * 4).float(),
        "score": torch.linspace(0, 1, 12),
        "level": torch.tensor([0, 1, 2] * 4).float(),
        "key_image": draw(5),
        "key_text": draw(5),
        "image_tokens": draw(3, 6),
        "image_mask": torch.ones(12, 3, dtype=torch.bool),
        "text_tokens": draw(4, 7),
        "text_mask": torch.arange(4)[None, :] < lengths[:, None],
    }


def losses_and_gradients(
    rank: int, size: int, rendezvous: str, out: str, targets: list[Target], specs: list[dict[str, Any]]
) -> None:
    """Write, for each target (two batches) and then for each assembled config, the mean loss and DDP's gradients of a
    half batch."""
    join(rank, size, rendezvous)
    share = 12 // size
    found = []
    for target, lacks in itertools.product(targets, (False, True)):
        stepper = DistributedDataParallel(TwoTowers(target), broadcast_buffers=False)
        mine = slice(rank * share, (rank + 1) * share)
        loss = stepper({name: value[mine] for name, value in encoded_batch(lacks).items()})
        loss.backward()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        found.append({"loss": mean / size, **{name: p.grad for name, p in stepper.module.named_parameters()}})
    from assembled import batch_of, half_of, objective_of

    from pretrain.config import parse_config

    for each in specs:
        objective = objective_of(parse_config(each))
        stepper = DistributedDataParallel(objective, broadcast_buffers=False)
        objective.set_progress(0.25)
        loss = stepper(half_of(batch_of(objective), rank))["loss"]
        loss.backward()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        gradients = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
        found.append({"loss": mean / size, **gradients})
    if rank == 0:
        torch.save(found, out)
    dist.destroy_process_group()


def train(rank: int, size: int, rendezvous: str, job: dict[str, Any]) -> None:
    """One worker of a training run."""
    from pretrain.loop import Job, train_worker  # not needed, and slow to import, for the loss alone

    join(rank, size, rendezvous)
    train_worker(Job(**job))
    dist.destroy_process_group()


def train_each(rank: int, size: int, rendezvous: str, jobs: list[dict[str, Any]]) -> None:
    """One worker of several training runs, one after the other."""
    from pretrain.loop import Job, train_worker

    join(rank, size, rendezvous)
    for each in jobs:
        train_worker(Job(**each))
    dist.destroy_process_group()


def train_until_killed(rank: int, size: int, rendezvous: str, job: dict[str, Any], last_step: int) -> None:
    """One worker of a training run; rank 0 is killed when it has logged a step."""
    from pretrain.loop import Job, Metrics, train_worker

    def kill(metrics: Metrics) -> None:
        if metrics["step"] == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    if size > 1:
        join(rank, size, rendezvous)
    train_worker(Job(**job), kill)


def train_stages_until(_: int, __: int, ___: str, spec: dict[str, Any], store: str, line: str) -> None:
    """Train all stages; kill -9 as soon as the progress tells `line`."""
    from pretrain.stages import parse_stages, train_stages

    def kill(said: str) -> None:
        if line in said:
            os.kill(os.getpid(), signal.SIGKILL)

    train_stages(parse_stages(spec), Path(store), "serial", kill)


def spawn(function: Any, folder: Path, size: int, *args: Any) -> None:
    """Run `function(rank, size, rendezvous, *args)` in `size` processes and wait for them."""
    rendezvous = folder / f"rendezvous-{function.__name__}"
    rendezvous.unlink(missing_ok=True)
    torch.multiprocessing.spawn(function, args=(size, str(rendezvous), *args), nprocs=size, join=True)
