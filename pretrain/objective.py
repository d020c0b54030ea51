"""The objective: a model and its weighted targets as one module, which is what training steps and checkpoints hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.config import TrainConfig
from pretrain.embeddings.base import Inputs
from pretrain.model import Model
from pretrain.targets.base import Encoded, TargetModule


@dataclass
class Batch:
    """One worker's share of a global batch, as tensors.

    inputs: stream -> what `Model.prepare` made. repeats: stream -> how many successive rows each of its vectors
    stands for (a picture is encoded once for its k captions). group_B: int64 group id of each row.
    """

    inputs: dict[str, Inputs]
    repeats: dict[str, int]
    group_B: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        moved = {
            stream: {name: value.to(device, non_blocking=True) for name, value in inputs.items()}
            for stream, inputs in self.inputs.items()
        }
        return Batch(moved, self.repeats, self.group_B.to(device, non_blocking=True))


class Objective(nn.Module):
    """forward(Batch) -> {"loss": weighted sum, target name: its loss, ...}."""

    def __init__(self, model: Model, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        built: dict[str, Any] = {}
        self.weights: dict[str, float] = {}
        for index, weighted in enumerate(config.targets):
            name = f"{index}_{type(weighted.target).__name__}"
            built[name] = weighted.target.build(model.trained_log_scale())
            self.weights[name] = weighted.weight
        self.targets = nn.ModuleDict(built)
        self._needed = {stream for weighted in config.targets for stream in weighted.target.streams()}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        vectors = {}
        for stream in sorted(self._needed):
            vector_BD = self.model.encode(stream, batch.inputs[stream])
            vectors[stream] = vector_BD.repeat_interleave(batch.repeats[stream], dim=0)
        # The softmax over similarities loses too much in bfloat16, so targets are computed in float32 throughout.
        with torch.autocast(batch.group_B.device.type, enabled=False):
            encoded = Encoded({name: vector.float() for name, vector in vectors.items()}, batch.group_B)
            losses = {name: target(encoded) for name, target in self.targets.items()}
        losses["loss"] = torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()
        return losses

    def after_step(self) -> None:
        """Keep every target's parameters in range."""
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
