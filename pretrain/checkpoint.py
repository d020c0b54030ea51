"""Checkpoints: safetensors and JSON in a folder that appears whole or not at all. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from curation.table import TEMPORARY_PREFIX, sync
from pretrain.model import load_state

KEEP = 2
"""Checkpoints kept: the newest, and the one before it."""


def save_checkpoint(folder: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Write the state after `step` steps to `folder/step-........` and remove all but the newest `KEEP`."""
    final = folder / f"step-{step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        temporary = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        temporary.mkdir()
        try:
            save_file(_tensors(module.state_dict()), temporary / "model.safetensors")
            save_file(_optimizer_tensors(module, optimizer), temporary / "optimizer.safetensors")
            (temporary / "state.json").write_text(json.dumps({"step": step}), encoding="utf-8")
            for file in temporary.iterdir():
                sync(file)
            os.rename(temporary, final)
            sync(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)
    return final


def load_checkpoint(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put the newest checkpoint into module and optimizer; returns its step, 0 if there is none."""
    found = sorted(folder.glob("step-*"))
    if not found:
        return 0
    newest = found[-1]
    load_state(module, load_file(newest / "model.safetensors"), str(newest))
    stored = load_file(newest / "optimizer.safetensors")
    names = _names(module, optimizer)
    state: dict[int, dict[str, Tensor]] = {}
    for full_name, value in stored.items():
        name, _, field = full_name.rpartition("/")
        state.setdefault(names.index(name), {})[field] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    step: int = json.loads((newest / "state.json").read_text(encoding="utf-8"))["step"]
    return step


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's tensors, replacing the file in one step. Equal tensors give equal bytes.

    No metadata goes in: safetensors writes them in an order that changes from process to process.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.name}"
    try:
        save_file(_tensors(module.state_dict()), temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    # Cloned: safetensors refuses tensors that share memory (tied weights).
    return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}


def _names(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Parameter names in the order in which the optimizer numbers them."""
    by_id = {id(parameter): name for name, parameter in module.named_parameters()}
    return [by_id[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = _names(module, optimizer)
    return {
        f"{names[number]}/{field}": torch.as_tensor(value).detach().cpu().clone().contiguous()
        for number, fields in optimizer.state_dict()["state"].items()
        for field, value in fields.items()
    }
