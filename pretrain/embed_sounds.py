"""Sounds through a model of this package: vectors in the space of its pictures and texts.

Shape suffixes: N sounds, D common dimension, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from curation.models import SOUND_RATE_HZ
from pretrain.config import ConfigError
from pretrain.embed import TwoTowerScorer
from pretrain.embeddings.base import Sound
from pretrain.windows import windows_of

_ZEROS = 16
"""Of the filter's sinc on each side, at the lower rate: -80 dB beyond the transition of about a tenth of the band."""
_KAISER_BETA = 8.0


class RunSoundScorer:
    """A `curation.models.SoundScorer` over a finished run whose model has a stream of sound.

    model: the run's folder. Its weights digest is that of `TwoTowerScorer` for the same folder: vectors of its sounds
    and of its pictures are of one space. What is longer than the model hears is cut into windows, whose vectors are
    averaged. num_threads: of torch; with 1 the same input gives the same bits whatever the number of cores.
    """

    def __init__(self, model: str | Path, num_threads: int | None = 1) -> None:
        self._scorer = TwoTowerScorer(model, num_threads=num_threads, precision="fp32")
        own = self._scorer.model
        streams = {source: name for name, source in own.sources.items()}
        if "audio" not in streams:
            raise ConfigError(f"model {str(model)!r} has no stream of sound; it has {sorted(own.sources)}")
        wanted = own.spans()["audio"]
        assert isinstance(wanted, Sound)
        if SOUND_RATE_HZ % wanted.rate_hz:
            raise ConfigError(
                f"model {str(model)!r} hears at {wanted.rate_hz} Hz, which {SOUND_RATE_HZ} Hz is no multiple of"
            )
        self._stream, self._wanted, self._has_text = streams["audio"], wanted, "text" in streams
        self.embed_dim, self.weights_digest = self._scorer.embed_dim, self._scorer.weights_digest

    def encode_sounds(self, sounds: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors, and (N,) bool: which are there. One sound at a time, so that its vector does not
        depend on its neighbours."""
        vectors_ND = np.zeros((len(sounds), self.embed_dim), np.float32)
        is_there = np.array([sound is not None and len(sound) > 0 for sound in sounds], bool)
        for row in np.flatnonzero(is_there).tolist():
            sound = sounds[row]
            assert sound is not None
            vectors_ND[row] = self._encode_one(slower(np.asarray(sound, np.float32), self._wanted.rate_hz))
        return vectors_ND, is_there

    def encode_texts(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors, and (N,) bool: which are there. Errors: ConfigError without a stream of text."""
        if not self._has_text:
            raise ConfigError("this model has no stream of text")
        return self._scorer.encode_texts(texts)

    @torch.inference_mode()
    def _encode_one(self, sound_S: np.ndarray) -> np.ndarray:
        model = self._scorer.model
        windows = windows_of(sound_S, int(self._wanted.max_s * self._wanted.rate_hz))
        inputs = {name: value.to(self._scorer.device) for name, value in model.prepare(self._stream, windows).items()}
        mean_D: np.ndarray = model.encode(self._stream, inputs).float().cpu().numpy().mean(axis=0)
        norm = float(np.linalg.norm(mean_D))
        return mean_D / norm if norm > 0 else mean_D


def slower(sound_S: np.ndarray, rate_hz: int) -> np.ndarray:
    """Samples at `SOUND_RATE_HZ` as samples at `rate_hz`, which divides it: through a windowed sinc, no delay."""
    step = SOUND_RATE_HZ // rate_hz
    if step == 1 or not len(sound_S):
        return sound_S
    half = _ZEROS * step
    at = np.arange(-half, half + 1)
    filter_K = np.sinc(0.95 * at / step) * np.kaiser(2 * half + 1, _KAISER_BETA)
    padded = np.pad(sound_S, half)
    kept = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)[::step]
    made: np.ndarray = (kept @ (filter_K / filter_K.sum()).astype(np.float32)).astype(np.float32)
    return made[: math.ceil(len(sound_S) / step)]
