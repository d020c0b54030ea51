"""From what a sample has (picture, text, ...) to the inputs of a model's streams and target embedding."""

from __future__ import annotations

from typing import Any

from pretrain.embeddings.base import Inputs
from pretrain.model import Model


def model_inputs(model: Model, raw: dict[str, Any]) -> dict[str, Inputs]:
    """Tensors for each input of the model from its source in `raw` (image: float32 BCHW in 0..1; text: list of str).

    Raises ValueError where an input reads what a sample does not have.
    """
    missing = [f"{name} reads {source!r}" for name, source in model.sources.items() if source not in raw]
    if missing:
        raise ValueError(f"streams without data: {', '.join(missing)}; a sample has: {', '.join(sorted(raw))}")
    return {name: model.prepare(name, raw[source]) for name, source in model.sources.items()}


def model_repeats(model: Model, repeats: dict[str, int]) -> dict[str, int]:
    """For each input of the model, how many successive rows each of its vectors stands for, by its source."""
    return {name: repeats.get(source, 1) for name, source in model.sources.items()}
