"""What spawned gloo processes run in these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pretrain.targets.base import Encoded
from pretrain.targets.info_nce import InfoNCELoss


def join(rank: int, size: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)


class TwoTowers(torch.nn.Module):
    """Two linear maps and InfoNCE: the least that has gradients on both sides and a scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = torch.nn.Linear(6, 5), torch.nn.Linear(7, 5)
        self.loss = InfoNCELoss("image", "text", 2.0)

    def forward(self, x: torch.Tensor, y: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
        unit = torch.nn.functional.normalize
        vectors = {"image": unit(self.a(x), dim=-1), "text": unit(self.b(y), dim=-1)}
        loss: torch.Tensor = self.loss(Encoded(vectors, group))
        return loss


def global_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """12 rows of 5 groups, groups lying across the two workers' halves."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 6, generator=generator), torch.randn(12, 7, generator=generator)
    return x, y, torch.tensor([0, 0, 1, 1, 2, 3, 0, 3, 3, 4, 4, 1])


def loss_and_gradients(rank: int, size: int, rendezvous: str, out: str) -> None:
    """Write the mean loss and DDP's gradients of a half batch each."""
    join(rank, size, rendezvous)
    stepper = DistributedDataParallel(TwoTowers())
    share = 12 // size
    parts = [each[rank * share : (rank + 1) * share] for each in global_batch()]
    loss = stepper(*parts)
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    if rank == 0:
        grads = {name: parameter.grad for name, parameter in stepper.module.named_parameters()}
        torch.save({"loss": mean / size, **grads}, out)
    dist.destroy_process_group()


def train(rank: int, size: int, rendezvous: str, job: dict[str, Any]) -> None:
    """One worker of a training run."""
    from pretrain.loop import Job, train_worker  # not needed, and slow to import, for the loss alone

    join(rank, size, rendezvous)
    train_worker(Job(**job))
    dist.destroy_process_group()


def spawn(function: Any, folder: Path, size: int, *args: Any) -> None:
    """Run `function(rank, size, rendezvous, *args)` in `size` processes and wait for them."""
    rendezvous = folder / f"rendezvous-{function.__name__}"
    rendezvous.unlink(missing_ok=True)
    torch.multiprocessing.spawn(function, args=(size, str(rendezvous), *args), nprocs=size, join=True)
