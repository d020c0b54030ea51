"""From a config to the objective that is trained, and from its last state to the weights that a run leaves behind."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pretrain.config import TrainConfig
from pretrain.frozen import freeze, must_train_something, start_targets
from pretrain.lora import add_lora, merge_lora
from pretrain.model import Model, load_state, load_weights
from pretrain.objective import Objective

_MODEL, _AVERAGED = "model.", "averaged_model."


def build_objective(model: Model, config: TrainConfig) -> Objective:
    """The model with its start weights, adapted and frozen as configured, and its targets.

    Raises ConfigError or ValueError where names or weights do not fit.
    """
    if config.init is not None:
        load_weights(model, Path(config.init))
    adapt(model, config)
    objective = Objective(model, config)  # its moving copies start as the adapted model
    if config.init is not None:
        start_targets(objective.targets, Path(config.init))
    freeze(objective, config.freeze)
    must_train_something(objective)
    return objective


def adapt(model: Model, config: TrainConfig) -> None:
    """Add what `lora` asks for."""
    if config.lora is not None:
        add_lora(model, config.lora)


def final_tensors(config: TrainConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a run leaves: an ordinary model (averaged, low-rank updates merged), targets, and what else has a state."""
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
    return {**{_MODEL + name: value for name, value in own.items()}, **rest}
