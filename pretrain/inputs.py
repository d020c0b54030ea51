"""From what a sample has (picture, text, sound, film) to the inputs of a model's streams and target embedding."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pretrain.embeddings.base import Inputs
from pretrain.model import Model


def model_inputs(model: Model, raw: dict[str, Any]) -> dict[str, Inputs]:
    """Tensors for each input of the model from its source in `raw`: image (float32 BCHW in 0..1), text (list of str),
    audio (list of float32 samples), video (dict of `frames` and `time_s`, see `embeddings.video.EachFrame`).

    Raises ValueError where an input reads what a sample does not have.
    """
    missing = [f"{name} reads {source!r}" for name, source in model.sources.items() if source not in raw]
    if missing:
        raise ValueError(f"streams without data: {', '.join(missing)}; a sample has: {', '.join(sorted(raw))}")
    return {name: model.prepare(name, raw[source]) for name, source in model.sources.items()}


def model_repeats(model: Model, repeats: dict[str, int]) -> dict[str, int]:
    """For each input of the model, how many successive rows each of its vectors stands for, by its source."""
    return {name: repeats.get(source, 1) for name, source in model.sources.items()}


def model_presence(model: Model, has: dict[str, Tensor]) -> dict[str, Tensor]:
    """Which rows have each source (bool (B,)), by the names of the model's inputs; those that all rows have are left
    out."""
    lacking = {source: has_B for source, has_B in has.items() if not bool(has_B.all())}
    by_input = {name: lacking[source] for name, source in model.sources.items() if source in lacking}
    return {**lacking, **by_input}
