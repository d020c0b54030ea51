"""Checkpoints: safetensors and JSON in a folder that appears whole or not at all. Nothing is ever unpickled.

They are written beside the training: the step waits for a copy of the state in the host's memory, a thread writes it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from curation.table import TEMPORARY_PREFIX, sync
from pretrain.model import check_fits, load_state
from pretrain.targets.gather import world

KEEP = 2
"""Checkpoints kept unless the config says otherwise: the newest, and the one before it."""


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written, or read; the cause says why."""


class Saver:
    """Writes a run's checkpoints on a thread of its own, one at a time; a context manager that waits for the last.

    Of a sharded module every worker must save, and rank 0 writes; else only rank 0 saves. What is stored is the same
    for any number of workers.
    """

    def __init__(
        self,
        folder: Path,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        is_sharded: bool = False,
        keep: int | None = KEEP,
    ) -> None:
        self._folder, self._module, self._optimizer, self._is_sharded = folder, module, optimizer, is_sharded
        self._keep = keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[Path] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()
        if error is None:  # else that is what is to be told
            self.wait()

    def save(self, step: int) -> None:
        """Copy the state after `step` steps and let it be written. Waits for the one before, whose errors it raises."""
        self.wait()
        states = (_whole_states if self._is_sharded else _states)(self._module, self._optimizer)
        if world()[0] == 0:
            self._writing = self._thread.submit(write_checkpoint, self._folder, step, *states, self._keep)

    def check(self) -> None:
        """Raises CheckpointError where the last write has failed; does not wait for one that goes on."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Until the last one is on disk. Raises CheckpointError."""
        writing, self._writing = self._writing, None
        failure = None if writing is None else writing.exception()
        if failure is not None:
            raise CheckpointError(f"no checkpoint could be written to {self._folder}: {failure}") from failure


def write_checkpoint(
    folder: Path,
    step: int,
    tensors: dict[str, Tensor],
    optimizer_tensors: dict[str, Tensor],
    keep: int | None = KEEP,
) -> Path:
    """Put the state after `step` steps into `folder/step-........` and remove all but the newest `keep`; None: none."""
    final = folder / f"step-{step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        temporary = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        temporary.mkdir()
        try:
            save_file(tensors, temporary / "model.safetensors")
            save_file(optimizer_tensors, temporary / "optimizer.safetensors")
            (temporary / "state.json").write_text(json.dumps({"step": step}), encoding="utf-8")
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            os.rename(temporary, final)
            sync(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[: 0 if keep is None else -keep]:
        shutil.rmtree(old)
    return final


def newest(folder: Path) -> Path:
    """The newest checkpoint of a run, of which there is one."""
    return max(folder.glob("step-*"))


def load_checkpoint(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, is_sharded: bool = False) -> int:
    """Put the newest checkpoint into module and optimizer; returns its step, 0 if there is none.

    Raises CheckpointError where its files are damaged.
    """
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if not any(folder.glob("step-*")):
        return 0
    found = newest(folder)
    try:
        tensors, stored = load_file(found / "model.safetensors"), load_file(found / "optimizer.safetensors")
    except (SafetensorError, OSError) as error:  # it was whole when it was put here
        raise CheckpointError(f"{found} is damaged ({error}): remove it to go on from the one before") from error
    by_name: dict[str, dict[str, Tensor]] = {}
    for full_name, value in stored.items():
        name, _, field = full_name.rpartition("/")
        by_name.setdefault(name, {})[field] = value
    if is_sharded:
        check_fits(module, tensors, str(found))
        _load_whole(module, optimizer, tensors, by_name)
    else:
        load_state(module, tensors, str(found))
        names = _names(module, optimizer)
        state = {names.index(name): fields for name, fields in by_name.items()}
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    step: int = json.loads((found / "state.json").read_text(encoding="utf-8"))["step"]
    return step


def _states(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return _tensors(module.state_dict()), _optimizer_tensors(module, optimizer)


def _whole_states(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The states of a sharded module, put together on rank 0; the others get nothing, but have to call."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict  # slow to import

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    states: Any = get_state_dict(module, optimizer, options=options)
    if world()[0]:
        return {}, {}  # they are put together on rank 0 only
    model_state, fields = states[0], states[1]["state"]
    flat = {f"{name}/{field}": value for name, each in fields.items() for field, value in each.items()}
    return _tensors(model_state), _tensors({name: torch.as_tensor(value) for name, value in flat.items()})


def _load_whole(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    by_name: dict[str, dict[str, Tensor]],
) -> None:
    """Spread stored states over the workers."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict  # slow to import

    # torch trips over the second name of weights that two streams share; that the others are all there was checked
    options = StateDictOptions(full_state_dict=True, strict=False)
    names = {name for name, _ in module.named_parameters()}
    second_names = {name for name, _ in module.named_parameters(remove_duplicate=False)} - names
    groups = [
        {**{key: value for key, value in group.items() if key != "params"}, "params": names}
        for group, names in zip(optimizer.param_groups, _names_of_groups(module, optimizer), strict=True)
    ]
    model_state: Any = {name: value for name, value in tensors.items() if name not in second_names}
    optimizer_state: Any = {"state": by_name, "param_groups": groups}
    set_state_dict(
        module,
        optimizer,
        model_state_dict=model_state,
        optim_state_dict=optimizer_state,
        options=options,
    )


def save_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors, replacing the file in one step. Equal tensors give equal bytes.

    No metadata goes in: safetensors writes them in an order that changes from process to process.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.name}"
    try:
        save_file(_tensors(tensors), temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    # Copied: training goes on while they are written, and safetensors refuses tensors that share memory (tied weights).
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def _names(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Parameter names in the order in which the optimizer numbers them."""
    return [name for names in _names_of_groups(module, optimizer) for name in names]


def _names_of_groups(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[list[str]]:
    by_id = {id(parameter): name for name, parameter in module.named_parameters()}
    return [[by_id[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = _names(module, optimizer)
    return {
        f"{names[number]}/{field}": torch.as_tensor(value).detach().to("cpu", copy=True).contiguous()
        for number, fields in optimizer.state_dict()["state"].items()
        for field, value in fields.items()
    }
