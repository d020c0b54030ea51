"""From a config to the objective that is trained, and from its last state to the weights that a run leaves behind."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pretrain.config import ConfigError, TrainConfig
from pretrain.frozen import freeze, must_train_something, start_targets
from pretrain.lora import add_lora, merge_lora
from pretrain.model import Model, load_state, load_weights, read_weights
from pretrain.objective import Objective

_MODEL, _AVERAGED = "model.", "averaged_model."


def build_objective(model: Model, config: TrainConfig) -> Objective:
    """The model with its start weights, adapted and frozen as configured, and its targets.

    Raises ConfigError or ValueError where names or weights do not fit.
    """
    if config.init is not None:
        try:
            load_weights(model, Path(config.init))
        except ValueError as error:
            raise ConfigError(f"init: {error}") from error
    elif config.init_share:
        raise ConfigError(f"init_share {config.init_share}: there is no init whose share it could be")
    adapt(model, config)
    objective = Objective(model, config)  # its moving copies start as the adapted model
    started = [] if config.init is None else start_targets(objective.targets, Path(config.init))
    for index, (name, target) in enumerate(objective.targets.items()):
        for part in getattr(target, "from_before", ()):
            if not any(each.startswith(f"{name}.{part}.") for each in started):
                raise ConfigError(
                    f"targets.{index}: its {part} is not trained but taken from `init`, and init = {config.init!r} has "
                    f"none of this shape at targets.{index}: name a run that learned it there"
                )
    freeze(objective, config.freeze)
    must_train_something(objective)
    return objective


def adapt(model: Model, config: TrainConfig) -> None:
    """Add what `lora` asks for."""
    if config.lora is not None:
        add_lora(model, config.lora)


def _between(value: Tensor, start: Tensor, share: float) -> Tensor:
    """Exactly one of the two at 0 and at 1; numbers that are no floats (counts) as they were trained, but for 1."""
    if value.is_floating_point():
        return torch.lerp(value, start.to(value.dtype), share)
    return start if share == 1 else value


def final_tensors(config: TrainConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a run leaves: an ordinary model (averaged, low-rank updates merged, mixed with what it started from),
    targets, and what else has a state."""
    own = {name.removeprefix(_MODEL): value for name, value in state.items() if name.startswith(_MODEL)}
    rest = {name: value for name, value in state.items() if not name.startswith((_MODEL, _AVERAGED))}
    if config.ema is not None:
        own = {name.removeprefix(_AVERAGED): value for name, value in state.items() if name.startswith(_AVERAGED)}
    if config.lora is not None:
        model = config.model.without_weights().build(config.image_size)
        adapt(model, config)
        load_state(model, own, "the last checkpoint")
        merge_lora(model)
        own = dict(model.state_dict())
    if config.init is not None and config.init_share:
        start = read_weights(Path(config.init))
        own = {name: _between(value, start[name], config.init_share) for name, value in own.items()}
    return {**{_MODEL + name: value for name, value in own.items()}, **rest}
