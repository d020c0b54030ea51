"""CLAP models as scorers of sounds: checkpoints of the library `transformers`, from a folder or from the hub, and the
`.pt` files of LAION's own code (`pretrain.clap_laion`).

Shape suffixes: N sounds or texts, D common dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.models import SOUND_RATE_HZ
from curation.step import digest
from pretrain.clap_laion import load_laion
from pretrain.config import ConfigError
from pretrain.embed import state_digest
from pretrain.encoders.transformers_tower import library
from pretrain.loop import choose_device
from pretrain.windows import windows_of

TEXTS_AT_A_TIME = 256
MAX_TOKENS = 77
"""Of a text, as in CLAP's training (arXiv 2211.06687)."""


class ClapScorer:
    """A `curation.models.SoundScorer`.

    model: folder as `save_pretrained` writes it (safetensors only), with the files of its processor (feature extractor
    and tokenizer); or a name on the hub; or a `.pt` file of LAION's code, with RoBERTa's tokenizer files beside it.
    device: auto, cpu or cuda. num_threads: of torch (unchanged if None); with 1 the same input gives the same bits
    whatever the machine's number of cores.
    """

    def __init__(self, model: str | Path, device: str = "auto", num_threads: int | None = 1) -> None:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        name, is_file = str(model), Path(model).is_file()
        self._model, self._features, self._tokenizer = load_laion(Path(model)) if is_file else _of_library(name)
        if self._features.sampling_rate != SOUND_RATE_HZ:
            raise ConfigError(f"model {name!r} takes sound at {self._features.sampling_rate} Hz, not {SOUND_RATE_HZ}")
        self.device = choose_device(device)
        self._model.eval().to(self.device)
        self.embed_dim = int(self._model.config.projection_dim)
        # that of unfused folders is as it always was; the others have more to tell
        more = ["laion"] if is_file else ["windows are not longer"] if self._is_fused() else []
        self.weights_digest = digest(
            "clap", state_digest(self._model), self._features.to_dict(), _tokenizer_digest(self._tokenizer), *more
        )

    def encode_sounds(self, sounds: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors, and (N,) bool: which are there. One sound at a time, so that its vector does not
        depend on its neighbours; its windows of 10 s go together."""
        vectors_ND = np.zeros((len(sounds), self.embed_dim), np.float32)
        is_there = np.array([sound is not None and len(sound) > 0 for sound in sounds], bool)
        for row in np.flatnonzero(is_there).tolist():
            sound = sounds[row]
            assert sound is not None
            vectors_ND[row] = self._encode_one(np.asarray(sound, np.float32))
        return vectors_ND, is_there

    def encode_texts(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors, and (N,) bool: which are there."""
        vectors_ND = np.zeros((len(texts), self.embed_dim), np.float32)
        is_there = np.array([text is not None for text in texts], bool)
        rows = np.flatnonzero(is_there)
        for start in range(0, len(rows), TEXTS_AT_A_TIME):
            some = rows[start : start + TEXTS_AT_A_TIME]
            # padded to a fixed length, so that a text's vector does not depend on the others of its batch
            inputs = self._tokenizer(
                [texts[row] for row in some], padding="max_length", truncation=True, max_length=MAX_TOKENS,
                return_tensors="pt",
            )  # fmt: skip
            with torch.inference_mode():
                placed = {name: value.to(self.device) for name, value in inputs.items()}
                vectors_ND[some] = self._model.get_text_features(**placed).pooler_output.float().cpu().numpy()
        return vectors_ND, is_there

    def _is_fused(self) -> bool:
        return bool(self._model.config.audio_config.enable_fusion)

    def _encode_one(self, sound: np.ndarray) -> np.ndarray:
        windows = windows_of(sound, int(self._features.nb_max_samples))
        inputs = self._features(windows, sampling_rate=SOUND_RATE_HZ, return_tensors="pt")
        # no window is longer than the model's; the library calls one of them so by chance, as fused models are trained
        inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
        with torch.inference_mode():
            placed = {name: inputs[name].to(self.device) for name in ("input_features", "is_longer")}
            found_WD = self._model.get_audio_features(**placed).pooler_output.float().cpu().numpy()
        mean: np.ndarray = found_WD.mean(axis=0)
        norm = float(np.linalg.norm(mean))
        return mean / norm if norm > 0 else mean


def _of_library(name: str) -> tuple[Any, Any, Any]:
    """(model, feature extractor, tokenizer) of a checkpoint of `transformers`. Errors: ConfigError."""
    is_local = Path(name).is_dir()
    try:
        processor = library().ClapProcessor.from_pretrained(name, local_files_only=is_local)
        model, said = library().ClapModel.from_pretrained(
            name, use_safetensors=True, local_files_only=is_local, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"model {name!r} is no CLAP checkpoint that can be loaded: {error}") from error
    if said["missing_keys"]:
        raise ConfigError(f"model {name!r} lacks weights: {sorted(said['missing_keys'])[:10]}")
    return model, processor.feature_extractor, processor.tokenizer


def _tokenizer_digest(tokenizer: Any) -> str:
    return digest(sorted(tokenizer.get_vocab().items()), tokenizer.special_tokens_map)
