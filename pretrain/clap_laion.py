"""Checkpoints of LAION's own code (`630k-audioset-best.pt`, `music_audioset_epoch_15_esc_90.14.pt`, ...) as CLAP models
of the library `transformers`.

Such a file is a pickle of `state_dict` (each name perhaps behind `module.`), epoch and optimizer. It is read with
`weights_only`, so that nothing in it can run; besides tensors only the NumPy scalars that some of them hold are let in.
The architecture (HTSAT with RoBERTa, with or without feature fusion) is read off the tensors' shapes.
Sources: arXiv 2211.06687 and the modules `model`, `htsat` and `factory` of LAION-AI/CLAP for names and constants.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curation.models import SOUND_RATE_HZ
from pretrain.config import ConfigError
from pretrain.encoders.transformers_tower import library

TEXT_HEAD_WIDTH = 64
"""Of RoBERTa's attention; the number of heads cannot be read off the weights."""
TEXT_NORM_EPS = 1e-5
"""Of RoBERTa, whose tower LAION's code takes. (Folders of `transformers` say 1e-12.)"""
SPEC_SIZE = 256
"""Side of HTSAT's picture of a spectrogram, where no mask of shifted windows tells it."""
MEL = {"feature_size": 64, "hop_length": 480, "fft_window_size": 1024, "frequency_min": 50, "frequency_max": 14_000}
"""Of LAION's configurations of HTSAT."""
MEL_TOLERANCE = 1e-3
"""Of the largest weight of a mel filter: what a stored filter may differ from the one that is computed."""

_ENCODER = "audio_model.audio_encoder"
_BLOCK = r"^audio_branch\.layers\.(\d+)\.blocks\.(\d+)\."
_TO_BLOCK = rf"{_ENCODER}.layers.\1.blocks.\2."
_NAMES = (
    (r"^audio_branch\.bn0\.", f"{_ENCODER}.batch_norm."),
    (r"^audio_branch\.(patch_embed|norm)\.", rf"{_ENCODER}.\1."),
    (r"^audio_branch\.layers\.(\d+)\.downsample\.", rf"{_ENCODER}.layers.\1.downsample."),
    (_BLOCK + r"norm1\.", _TO_BLOCK + "layernorm_before."),
    (_BLOCK + r"norm2\.", _TO_BLOCK + "layernorm_after."),
    (_BLOCK + r"attn\.(qkv\.|relative_position_)", _TO_BLOCK + r"attention.self.\3"),
    (_BLOCK + r"attn\.proj\.", _TO_BLOCK + "attention.output.dense."),
    (_BLOCK + r"mlp\.fc1\.", _TO_BLOCK + "intermediate.dense."),
    (_BLOCK + r"mlp\.fc2\.", _TO_BLOCK + "output.dense."),
    (r"^text_branch\.", "text_model."),
    (r"^(audio|text)_projection\.0\.", r"\1_projection.linear1."),
    (r"^(audio|text)_projection\.2\.", r"\1_projection.linear2."),
    (r"^(logit_scale_[at])$", r"\1"),
)
"""Pattern of a name at LAION -> the name at `transformers`."""
_LEFT_OUT = re.compile(
    r"^(audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\."
    r"|audio_branch\.layers\.\d+\.blocks\.\d+\.attn_mask$"
    r"|(audio|text)_transform\."
    r"|text_branch\.embeddings\.position_ids$)"
)
"""What embeddings do not need: the front end, which is computed, HTSAT's classes, the second projections that only the
training used, and constants."""
_COMPUTED = re.compile(r"(position_ids|token_type_ids|relative_position_index)$")
"""Constants of the library's model."""


def load_laion(path: Path) -> tuple[Any, Any, Any]:
    """(model, feature extractor, tokenizer) of a checkpoint of LAION's code.

    The tokenizer's files are looked for in the file's folder: the checkpoint holds none, RoBERTa's are those of
    `roberta-base`. Errors: ConfigError, which says what of the file cannot be used.
    """
    state = read_state(path)
    config = config_of(state, path)
    model = library().ClapModel(library().ClapConfig(**config))
    weights = {name: value for own, tensor in state.items() for name, value in renamed(own, tensor, path)}
    try:
        said = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ConfigError(f"model {path}: its tensors do not fit HTSAT and RoBERTa: {error}") from error
    lacks = [name for name in said.missing_keys if not _COMPUTED.search(name)]
    if lacks or said.unexpected_keys:
        raise ConfigError(f"model {path}: lacks weights {lacks[:5]}, has unknown ones {said.unexpected_keys[:5]}")
    is_fused = config["audio_config"]["enable_fusion"]
    features = library().ClapFeatureExtractor(
        sampling_rate=SOUND_RATE_HZ, max_length_s=10, truncation="fusion" if is_fused else "rand_trunc", **MEL
    )
    _check_filters(state, features, path)
    return model, features, _tokenizer(path, config["text_config"]["vocab_size"])


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names at LAION, in float32. Errors: ConfigError."""
    scalar = np._core.multiarray.scalar, "numpy.core.multiarray.scalar"  # type: ignore[attr-defined]
    with torch.serialization.safe_globals([scalar, np._core.multiarray.scalar, np.dtype, np.dtypes.Float64DType]):  # type: ignore[attr-defined]
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            raise ConfigError(
                f"model {path}: a pickle that holds more than tensors and numbers, or none at all; it is not loaded, "
                "for that could run code. Where you trust it, load it elsewhere and save its `state_dict` alone "
                f"({_first_line(error)})"
            ) from error
        except (RuntimeError, EOFError, OSError) as error:
            raise ConfigError(f"model {path}: no checkpoint that torch can read: {_first_line(error)}") from error
    state = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"model {path}: holds no `state_dict` of tensors")
    named = {str(name).removeprefix("module."): value for name, value in state.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in named.items()}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def renamed(name: str, tensor: Tensor, path: Path) -> list[tuple[str, Tensor]]:
    """A tensor under its name at `transformers`, queries, keys and values each for itself; none where it is not
    needed. Errors: ConfigError where the name is not known."""
    if _LEFT_OUT.match(name):
        return []
    for pattern, theirs in _NAMES:
        made, count = re.subn(pattern, theirs, name)
        if count:
            break
    else:
        raise ConfigError(f"model {path}: {name!r} is no weight of HTSAT with RoBERTa")
    if ".self.qkv." not in made:
        return [(made, tensor)]
    thirds = tensor.chunk(3)
    return [(made.replace("qkv", own), part) for own, part in zip(("query", "key", "value"), thirds, strict=True)]


def config_of(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Fields of `ClapConfig` by the tensors' shapes. Errors: ConfigError where it is another architecture."""
    audio, text = "audio_branch.", "text_branch."
    for name, what in (
        (f"{audio}patch_embed.proj.weight", "HTSAT"),
        (f"{text}embeddings.word_embeddings.weight", "RoBERTa"),
    ):
        if name not in state:
            raise ConfigError(f"model {path}: has no {name!r}; only HTSAT with RoBERTa is read (this lacks {what})")
    try:
        return {**_projections(state), "audio_config": _htsat(state), "text_config": _roberta(state, path)}
    except KeyError as error:
        raise ConfigError(f"model {path}: lacks the weight {error.args[0]!r}") from error


def _projections(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"projection_dim": state["audio_projection.2.weight"].shape[0], "projection_hidden_act": "relu"}


def _htsat(state: Mapping[str, Tensor]) -> dict[str, Any]:
    blocks = [re.match(_BLOCK, name) for name in state]
    places = {(int(each[1]), int(each[2])) for each in blocks if each}
    depths = [
        sum(layer == own for own, _ in places) for layer in range(1 + max((own for own, _ in places), default=-1))
    ]
    tables = [
        state[f"audio_branch.layers.{layer}.blocks.0.attn.relative_position_bias_table"] for layer in range(len(depths))
    ]
    width, _, patch, _ = state["audio_branch.patch_embed.proj.weight"].shape
    window = (int(tables[0].shape[0] ** 0.5) + 1) // 2
    mask = state.get("audio_branch.layers.0.blocks.1.attn_mask")
    first = "audio_branch.layers.0.blocks.0."
    is_fused = "audio_branch.patch_embed.mel_conv2d.weight" in state
    return {
        "num_mel_bins": state["audio_branch.bn0.weight"].shape[0],
        "patch_embeds_hidden_size": width,
        "patch_size": patch,
        "patch_stride": [patch, patch],
        "window_size": window,
        "spec_size": SPEC_SIZE if mask is None else round(mask.shape[0] ** 0.5) * window * patch,
        "depths": depths,
        "num_hidden_layers": len(depths),
        "num_attention_heads": [table.shape[1] for table in tables],
        "hidden_size": state["audio_projection.0.weight"].shape[1],
        "mlp_ratio": state[f"{first}mlp.fc1.weight"].shape[0] / width,
        "qkv_bias": f"{first}attn.qkv.bias" in state,
        "enable_fusion": is_fused,
        "fusion_type": "aff_2d" if is_fused else None,
    }


def _roberta(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    words = state["text_branch.embeddings.word_embeddings.weight"]
    kinds = state["text_branch.embeddings.token_type_embeddings.weight"].shape[0]
    if kinds != 1:
        raise ConfigError(f"model {path}: a text tower with {kinds} kinds of tokens is no RoBERTa (BERT has two)")
    layers = {int(found[1]) for name in state if (found := re.match(r"^text_branch\.encoder\.layer\.(\d+)\.", name))}
    return {
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, words.shape[1] // TEXT_HEAD_WIDTH),
        "intermediate_size": state["text_branch.encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": state["text_branch.embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": kinds,
        "layer_norm_eps": TEXT_NORM_EPS,
    }


def _check_filters(state: Mapping[str, Tensor], features: Any, path: Path) -> None:
    """The front end that is computed must be the one that the model was trained with, whose filters it holds."""
    stored = state.get("audio_branch.logmel_extractor.melW")
    if stored is None:
        return
    computed = np.asarray(features.mel_filters_slaney, np.float32)
    worst = np.abs(stored.numpy() - computed).max() if stored.shape == computed.shape else np.inf
    if worst > MEL_TOLERANCE * np.abs(computed).max():
        raise ConfigError(
            f"model {path}: its mel filters {tuple(stored.shape)} are not those of LAION's configurations: 64 bands "
            "from 50 to 14,000 Hz at 48 kHz"
        )


def _tokenizer(path: Path, vocab_size: int) -> Any:
    forms = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    try:  # without any file the library makes one that knows no word
        if not any(all((path.parent / name).is_file() for name in form) for form in forms):
            raise FileNotFoundError(f"{path.parent} has none")
        found = library().RobertaTokenizerFast.from_pretrained(str(path.parent), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"model {path}: beside it there have to be the files of RoBERTa's tokenizer (`roberta-base`: vocab.json "
            f"and merges.txt, or tokenizer.json), for the checkpoint holds none: {_first_line(error)}"
        ) from error
    if len(found) > vocab_size:
        raise ConfigError(
            f"model {path}: knows {vocab_size} tokens, but the tokenizer beside it has {len(found)}; take RoBERTa's"
        )
    return found
