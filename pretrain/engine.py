"""One optimizer step of one worker: alone, with DistributedDataParallel, sharded (FSDP2), or in pieces (GradCache)."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from pretrain.config import TrainConfig
from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import Fused
from pretrain.gradcache import average_gradients, backward_in_pieces
from pretrain.keyed import key
from pretrain.loader import Ready
from pretrain.objective import Objective
from pretrain.targets.gather import is_spread, world
from pretrain.wanted import WAYS

BETA1 = 0.9
_STREAM_CALLS = ("hidden", "with_hidden", "unit")
_JOINT_CALLS = ("fuse", "next_token_scores")
"""Methods, beside `forward`, that use the weights of a part which is sharded."""


class Engine:
    """An objective on its device, its optimizer, and the way in which several workers share the work."""

    def __init__(self, objective: Objective, config: TrainConfig, device: torch.device) -> None:
        self.objective, self.config, self.device = objective, config, device
        self.is_sharded = config.sharding == "fsdp" and world()[1] > 1
        if config.activation_checkpointing:
            checkpoint_blocks(objective.model)
        if self.is_sharded:
            shard(objective)
        self.optimizer = torch.optim.AdamW(
            objective.parameter_groups(config.weight_decay),
            lr=config.lr,
            betas=(BETA1, config.beta2),
            fused=device.type == "cuda" or None,
        )
        self._stepper: nn.Module = objective

    def distribute(self) -> None:
        """To be called once the state is loaded: DistributedDataParallel copies rank 0's to all."""
        if world()[1] > 1 and not self.is_sharded and self.config.micro_batch is None:
            self._stepper = DistributedDataParallel(self.objective, broadcast_buffers=False)

    def step(self, ready: Ready, lr: float) -> tuple[dict[str, Tensor], Tensor]:
        """One update; (this worker's losses, norm of the gradient before clipping)."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        self._seed(ready.step, 0)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
            if self.config.micro_batch is not None:
                losses = backward_in_pieces(self.objective, ready.pieces, lambda number: self._seed(ready.step, number))
            else:
                losses = self._stepper(ready.pieces[0])
        if self.config.micro_batch is None:
            loss: Any = losses["loss"]
            loss.backward()
            if self.is_sharded:
                average_gradients(self.objective)
        parameters = [each for each in self.objective.parameters() if each.requires_grad]
        norm = _clip(parameters, self.config.max_grad_norm, self.is_sharded)
        self.optimizer.step()
        self.objective.after_step()
        return losses, norm

    def _seed(self, step: int, piece: int) -> None:
        """Any random layer (drop-out) draws the same numbers after a resumption, and in both passes of GradCache."""
        parts = ("step", self.config.seed, step, world()[0]) + ((piece,) if piece else ())
        torch.manual_seed(int(key(*parts) >> 1))


def _clip(parameters: list[nn.Parameter], most: float, is_sharded: bool) -> Tensor:
    """Scale the gradients so that their common norm is at most `most`; returns the norm before."""
    if not is_sharded:
        return nn.utils.clip_grad_norm_(parameters, most)
    squares = [_whole(nn.utils.get_total_norm([each.grad])) ** 2 for each in parameters if each.grad is not None]
    norm = torch.stack(squares).sum().sqrt()
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for each in parameters:
        if each.grad is not None:
            each.grad.mul_(scale)
    return norm


def _whole(value: Any) -> Tensor:
    """A plain tensor from one that may be spread over workers."""
    found: Tensor = value.full_tensor() if is_spread(value) else value
    return found


@functools.cache
def _show_tensors() -> None:
    """Let FSDP2 see the tensors within what goes into and comes out of a sharded part."""
    from torch.export import register_dataclass

    for kind in (Tokens, Fused):
        register_dataclass(kind)


def shard(objective: Objective) -> None:
    """Spread the parameters of each stream, and of fusion and decoder together, over the workers, of its slow copies
    likewise; those of a model without streams, or whose streams share weights, all together; targets stay whole."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    _show_tensors()
    for model in (objective.model, objective.momentum_model, objective.averaged_model):
        if model is None:
            continue
        streams, joint = getattr(model, "streams", None), model.parts()
        parts: list[tuple[nn.Module, tuple[str, ...]]] = [] if joint is None else [(joint, _JOINT_CALLS)]
        if isinstance(streams, nn.ModuleDict) and not model.shares_weights:
            parts += [(stream, _STREAM_CALLS) for stream in streams.values()]
        else:
            parts += [(model, WAYS)]  # after what is within it
        for part, calls in parts:
            # by default an outermost part keeps its whole weights until its backward pass, which slow copies never have
            fully_shard(part, reshard_after_forward=True)
            for name in calls:
                register_fsdp_forward_method(part, name)


def checkpoint_blocks(model: nn.Module) -> int:
    """Make the repeated blocks of a model compute their activations anew for the gradient; returns how many there are.

    Raises ValueError where there are none.
    """
    found = repeated_blocks(model)
    for block in found:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    return len(found)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of all rows of at least two of one kind (layers of a transformer). Raises ValueError without any."""
    found: list[nn.Module] = []
    inside: set[int] = set()
    for module in model.modules():
        if id(module) in inside or not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        blocks = list(module)
        if (
            len(blocks) >= 2
            and len({type(block) for block in blocks}) == 1
            and any(True for _ in blocks[0].parameters())
        ):
            found += blocks
            inside |= {id(each) for block in blocks for each in block.modules()}
    if not found:
        raise ValueError(
            "activation_checkpointing: the model has no row of blocks of one kind, such as two layers of a "
            "transformer; say false"
        )
    return found


def mean_over_workers(values: Tensor) -> Tensor:
    """The mean of what each worker has."""
    if world()[1] > 1:
        dist.all_reduce(values)
        values /= world()[1]
    return values
