"""How far pictures and words lie apart inside a fusion, layer by layer (`pretrain.integration`), as figures of a suite.

Shape suffixes: P pictures, B batch, K tokens of both streams, N tokens, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pretrain.embed import TwoTowerScorer
from pretrain.embeddings.base import Tokens
from pretrain.evaluate_tokens import part_of
from pretrain.found import Found
from pretrain.fusions.base import seen
from pretrain.integration import Integration, integration
from pretrain.metrics import TAILS
from pretrain.model import Model
from pretrain.suites import Suite

MAX_PICTURES = 50
"""Pictures, each with its first text, whose tokens are compared."""
RESAMPLINGS = 100
"""Fewer than of other figures: each one decomposes all tokens anew."""
_BATCH = 16
_STREAMS = ("image", "text")
Layer = dict[str, list[np.ndarray]]
"""stream -> the tokens (N, W) of each picture, or of its text."""


def fuses_pictures_and_texts(model: Model) -> bool:
    """Whether pictures and texts go through the layers of one fusion together, all of their tokens in each."""
    joint = model.parts()
    is_one = joint is not None and hasattr(joint.fusion, "blocks") and hasattr(joint.fusion, "entrance")
    return is_one and set(_STREAMS) <= model.encoded()


def by_fusion(suite: Suite, scorer: TwoTowerScorer, pixels: np.ndarray) -> Found:
    """`modality_distance` (the sum over the layers) and `modality_integration_rate` (its log10, where it is not 0).

    The bootstrap draws pictures with their texts. chance: all tokens of a layer, dealt at random into two sets of these
    sizes, once. Raises EvaluationError.
    """
    part = part_of(suite)
    pictures = min(len(part.rows), MAX_PICTURES)
    first_P = part.positive_TP[:, :pictures].argmax(axis=0)
    layers = states(scorer, np.asarray(pixels[part.rows[:pictures]]), [part.texts[place] for place in first_P])
    generator = np.random.default_rng(0)
    own, chance = _of(layers, np.arange(pictures)), integration([_dealt(layer, generator) for layer in layers])
    drawn = [_of(layers, generator.integers(0, pictures, pictures)) for _ in range(RESAMPLINGS)]
    found = Found()
    lo, hi = np.quantile([each.total for each in drawn], TAILS).tolist()
    rows: list[dict[str, Any]] = [
        {"metric": "modality_distance", "value": own.total, "lo": lo, "hi": hi, "chance": chance.total}
    ]
    if own.rate is not None and lo > 0:
        rate = {"value": own.rate, "lo": float(np.log10(lo)), "hi": float(np.log10(hi)), "chance": chance.rate}
        rows.append({"metric": "modality_integration_rate", **rate})
    found.add_figures([{**row, "n": pictures} for row in rows], suite=suite.name)
    return found


def _of(layers: list[Layer], pictures: np.ndarray) -> Integration:
    places = pictures.tolist()
    return integration([(_together(layer["image"], places), _together(layer["text"], places)) for layer in layers])


def _together(tokens: list[np.ndarray], places: list[int]) -> np.ndarray:
    return np.concatenate([tokens[place] for place in places])


def _dealt(layer: Layer, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    image_NW, text_NW = (np.concatenate(layer[stream]) for stream in _STREAMS)
    mixed = generator.permutation(np.concatenate([image_NW, text_NW]))
    return mixed[: len(image_NW)], mixed[len(image_NW) :]


@torch.inference_mode()
def states(scorer: TwoTowerScorer, pixels_PSSC: np.ndarray, texts: list[str]) -> list[Layer]:
    """What every layer of the fusion makes of the tokens of pictures and their texts, which it sees together."""
    model: Any = scorer.model
    outputs: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for block in model.parts().fusion.blocks
    ]
    found: list[Layer] = [{stream: [] for stream in _STREAMS} for _ in hooks]
    try:
        for start in range(0, len(texts), _BATCH):
            tokens = _hidden(scorer, pixels_PSSC[start : start + _BATCH], texts[start : start + _BATCH])
            outputs.clear()
            model.parts().fuse({model.stream_of(stream): each for stream, each in tokens.items()}, {})
            for layer, out in zip(found, outputs, strict=True):
                # a class token, where there is one, stands before the streams, which stand in the order of their names
                end = out.shape[1]
                for stream in sorted(_STREAMS, key=model.stream_of, reverse=True):
                    start_of = end - tokens[stream].x_BLW.shape[1]
                    own = out[:, start_of:end].float().cpu()
                    mask_BL = seen(tokens[stream], None).cpu()
                    layer[stream] += [x_LW[mask_L].numpy() for x_LW, mask_L in zip(own, mask_BL, strict=True)]
                    end = start_of
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _hidden(scorer: TwoTowerScorer, pixels_BSSC: np.ndarray, texts: list[str]) -> dict[str, Tokens]:
    model: Any = scorer.model
    image_BCHW = torch.from_numpy(pixels_BSSC).permute(0, 3, 1, 2).float().div_(255)
    raw: dict[str, Any] = {"image": image_BCHW, "text": texts}
    found = {}
    for stream in _STREAMS:
        name = model.stream_of(stream)
        inputs = {field: value.to(scorer.device) for field, value in model.prepare(name, raw[stream]).items()}
        found[stream] = model.encode_with_hidden(name, inputs)[2]
    return found
