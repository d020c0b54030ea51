"""What of a model is trained: freezing by names, and what targets start from."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from pretrain.config import ConfigError
from pretrain.lora import is_adapter

_TARGETS = "targets."
_SHOWN = 30


def freeze(module: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """Stop training the parameters whose names match, low-rank updates excepted; returns their names.

    Layers with statistics of their own (batch norm) whose weights are frozen keep those, too. Raises ConfigError where
    a pattern matches nothing, or nothing is left to train.
    """
    names = [name for name, _ in module.named_parameters() if not is_adapter(name)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
            raise ConfigError(f"freeze: {pattern!r} matches no parameter; there are: {shown}")
    frozen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
    hold_statistics(module)
    return frozen


def hold_statistics(module: nn.Module) -> None:
    """Put layers with running statistics whose weights are all frozen into evaluation mode."""
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if getattr(layer, "running_mean", None) is not None and own and not any(each.requires_grad for each in own):
            layer.eval()


def must_train_something(module: nn.Module) -> None:
    """Raises ConfigError where every parameter is frozen."""
    if not any(each.requires_grad for each in module.parameters()):
        raise ConfigError("freeze: nothing is left to train")


@torch.no_grad()
def start_targets(targets: nn.Module, place: Path) -> list[str]:
    """Load from a run those parameters of targets that stand at the same place with the same shape; returns their
    names. The others start afresh: a stage may have other targets than the one before."""
    stored = load_file(place / "model.safetensors" if place.is_dir() else place)
    taken = []
    for name, value in targets.state_dict().items():
        there = stored.get(_TARGETS + name)
        if there is not None and there.shape == value.shape:
            value.copy_(there)
            taken.append(name)
    return taken
