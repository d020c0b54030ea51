"""The objective: a model and its weighted targets as one module, which is what training steps and checkpoints hold."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from pretrain.config import ConfigError, TrainConfig
from pretrain.draws import salt_of
from pretrain.embeddings.base import Inputs
from pretrain.model import Model
from pretrain.targets.base import Encoded, TargetModule
from pretrain.wanted import WAYS, Wanted, add_ids, encode_stream, freeze_unread, keep_alive

GRAPHS = 64
"""Graphs of one function that `torch.compile` may make before it gives up and runs it as it is."""


@dataclass
class Batch:
    """One worker's share of a global batch, as tensors.

    inputs: stream -> what `Model.prepare` made. repeats: stream -> how many successive rows each of its vectors
    stands for (a picture is encoded once for its k captions). group_B: int64 group id of each row.
    columns, present: as in `Encoded`.
    """

    inputs: dict[str, Inputs]
    repeats: dict[str, int]
    group_B: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)
    present: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        moved = {
            stream: {name: value.to(device, non_blocking=True) for name, value in inputs.items()}
            for stream, inputs in self.inputs.items()
        }

        def move(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value.to(device, non_blocking=True) for name, value in tensors.items()}

        group_B = self.group_B.to(device, non_blocking=True)
        return Batch(moved, self.repeats, group_B, move(self.columns), move(self.present))


class Objective(nn.Module):
    """forward(Batch) -> {"loss": weighted sum, target name: its loss, ...}."""

    def __init__(self, model: Model, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        built: dict[str, Any] = {}
        self.weights: dict[str, float] = {}
        for index, weighted in enumerate(config.targets):
            name = f"{index}_{type(weighted.target).__name__}"
            try:
                built[name] = weighted.target.build_for(model)
            except ValueError as error:
                raise ConfigError(f"targets.{index}: {error}") from error
            self.weights[name] = weighted.weight
        self.targets = nn.ModuleDict(built)
        wanted = [weighted.target for weighted in config.targets]
        self._wanted = Wanted.by(wanted)
        freeze_unread(model, self._wanted)
        self._is_bf16 = config.precision == "bf16"
        self._done = 0.0
        self._with_keys = {stream for target in wanted if target.momentum() is not None for stream in target.streams()}
        self._keep = next((target.momentum() for target in wanted if target.momentum() is not None), None)
        # Slowly moving copies, which get no gradient; they start as the model and are part of every checkpoint.
        self.momentum_model = copy.deepcopy(model).requires_grad_(False) if self._keep is not None else None
        self._decay = config.ema
        self.averaged_model = copy.deepcopy(model).requires_grad_(False) if config.ema is not None else None
        self._ways = {name: _way(model, name, config.compile) for name in WAYS}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses(self.encode(batch))

    def encode(self, batch: Batch) -> Encoded:
        """The vectors and tokens of a batch, or of a piece of one, that the targets want."""
        encoded = Encoded({}, batch.group_B, batch.present, dict(batch.columns))
        for stream in sorted(self._wanted.streams):
            self._encode(stream, batch, encoded)
        add_ids(self._wanted, batch.inputs, batch.repeats, encoded)
        return encoded

    def losses(self, encoded: Encoded) -> dict[str, Tensor]:
        """What the targets say of a whole batch."""
        encoded.joint, encoded.is_bf16 = self.model.parts(), self._is_bf16
        # The softmax over similarities loses too much in bfloat16, so targets are computed in float32 throughout.
        with torch.autocast(encoded.group_B.device.type, enabled=False):
            losses = {name: target(encoded) for name, target in self.targets.items()}
        losses["loss"] = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        if self._wanted.hidden or self._wanted.masked:
            losses["loss"] = losses["loss"] + keep_alive(self.model) + keep_alive(self.targets)
        return losses

    def _encode(self, stream: str, batch: Batch, encoded: Encoded) -> None:
        """Put what the targets want of a stream into `encoded`."""
        inputs, repeats = batch.inputs[stream], batch.repeats.get(stream, 1)
        salt = salt_of(self._done)
        encode_stream(self.model, self._ways, self._wanted, stream, inputs, repeats, salt, encoded)
        if stream in self._with_keys and self.momentum_model is not None:
            with torch.no_grad():
                key_BD = self.momentum_model.encode(stream, inputs)
            encoded.keys[stream] = key_BD.float().repeat_interleave(repeats, dim=0)

    def set_progress(self, done: float) -> None:
        """Tell the targets which share of all steps is done."""
        self._done = done
        for target in self.targets.values():
            if isinstance(target, TargetModule):
                target.set_progress(done)

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep every target's parameters in range; let the momentum model and the average follow."""
        if self.momentum_model is not None and self._keep is not None:
            follow(self.momentum_model, self.model, self._keep)
        if self.averaged_model is not None and self._decay is not None:
            follow(self.averaged_model, self.model, self._decay)
        for target in self.targets.values():
            if isinstance(target, TargetModule):
                target.after_step()

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Two optimizer groups: matrices decay; biases, gains, positions and the targets' scales do not."""
        decayed: list[nn.Parameter] = []
        kept: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            plain = parameter.ndim < 2 or name.startswith("targets.") or "position" in name
            (kept if plain else decayed).append(parameter)
        return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def _way(model: Model, name: str, compiles: bool) -> Callable[[str, Inputs], Any]:
    """A method of the model, looked up when it is called, for sharding replaces it; compiled if wanted."""

    def call(stream: str, inputs: Inputs) -> Any:
        return getattr(model, name)(stream, inputs)

    if not compiles:
        return call
    import torch._dynamo as dynamo  # slow to import

    # of the texts' and sounds' varying lengths there are two graphs for each stream, with and without gradient
    dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, GRAPHS)
    return cast(Callable[[str, Inputs], Any], torch.compile(call))


def follow(slow: nn.Module, fast: nn.Module, keep: float) -> None:
    """slow <- keep x slow + (1 - keep) x fast, for all weights; buffers are copied."""
    for behind, ahead in zip(slow.parameters(), fast.parameters(), strict=True):
        behind.lerp_(ahead, 1 - keep)
    for kept, current in zip(slow.buffers(), fast.buffers(), strict=True):
        kept.copy_(current)
