"""Sound as log-mel frames: Whisper's front end (Radford et al. 2022, arXiv:2212.04356, section 2.2).

Shape suffixes: B rows, S samples, T frames, M mel bands, F frequencies, L tokens, W width.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.base import Embedding, Form, Inputs, Sound, Tokens
from pretrain.embeddings.positions import Position, position_module

_LINEAR_UP_TO_HZ, _HZ_PER_MEL = 1000.0, 200.0 / 3
"""Slaney's mel scale (Auditory Toolbox, 1998), librosa's default: even below 1 kHz, logarithmic above."""
_LOG_STEP = math.log(6.4) / 27.0
_FLOOR = 1e-10
_RANGE_LOG10 = 8.0
"""Below the loudest band, of which more than this many powers of ten are cut off (Whisper's audio.py)."""


class LogMel(Embedding):
    """Log-mel frames through two convolutions, the second with stride 2, then positions: a token every 20 ms.

    Raw input: a list of float32 arrays, each either samples in -1..1 at `sample_rate_hz` (sound beyond `max_seconds` is
    cut), or the frames (T, M) that `frames_of` made of them before.
    Defaults: Whisper's (16 kHz, windows of 25 ms every 10 ms, 80 bands), but for the length, which there is 30 s.
    """

    gives: ClassVar[Form] = "tokens"

    width: int = Field(192, ge=2)
    sample_rate_hz: int = Field(16_000, ge=1000)
    window_samples: int = Field(400, ge=2)
    hop_samples: int = Field(160, ge=1)
    num_mels: int = Field(80, ge=1)
    max_seconds: float = Field(10.0, gt=0)
    position: Position = "sinusoidal"

    def width_of(self, image_size: int) -> int:  # noqa: ARG002
        return self.width

    def span(self) -> Sound:
        return Sound(self.sample_rate_hz, self.max_seconds)

    def max_frames(self) -> int:
        """Log-mel frames of the longest sound."""
        return int(self.max_seconds * self.sample_rate_hz) // self.hop_samples

    def build(self, image_size: int) -> nn.Module:  # noqa: ARG002
        return MelConvolutions(self)

    def prepare(self, raw: Any) -> Inputs:
        """mel_BTM: normalised log-mel frames, zeros behind the end; frames_B: how many there are (at least 1)."""
        made = [torch.from_numpy(np.array(each if np.ndim(each) == 2 else self.frames_of(each))) for each in raw]
        longest = max((len(each) for each in made), default=1)
        mel_BTM = torch.zeros(len(made), longest, self.num_mels)
        for index, each in enumerate(made):
            mel_BTM[index, : len(each)] = each
        return {"mel_BTM": mel_BTM, "frames_B": torch.tensor([len(each) for each in made])}

    def frames_of(self, samples_S: np.ndarray) -> np.ndarray:
        """float32 (T, M): the log-mel frames of one sound as far as `max_seconds`."""
        most = int(self.max_seconds * self.sample_rate_hz)
        samples = torch.from_numpy(np.ascontiguousarray(samples_S, dtype=np.float32)[:most])
        return np.ascontiguousarray(self.log_mel(samples).numpy())

    def log_mel(self, samples_S: Tensor) -> Tensor:
        """(T, M) float32 of one sound: log10 of mel power, at most 8 below the loudest, (x + 4) / 4.

        A sound shorter than one hop is one frame. Raises ValueError for samples that are not finite.
        """
        if not bool(torch.isfinite(samples_S).all()):
            raise ValueError("sound with samples that are not finite")
        least = max(self.hop_samples, self.window_samples // 2 + 1)  # of reflecting half a window at both ends
        if len(samples_S) < least:
            samples_S = nn.functional.pad(samples_S, (0, least - len(samples_S)))
        window = torch.hann_window(self.window_samples)
        spectrum_FT = torch.stft(
            samples_S, self.window_samples, self.hop_samples, window=window, center=True, return_complex=True
        )[:, :-1]  # as Whisper: frame t begins at sample t x hop, the one behind the end is dropped
        filters = torch.from_numpy(mel_filters(self.sample_rate_hz, self.window_samples, self.num_mels))
        log_MT = (filters @ spectrum_FT.abs().square()).clamp(min=_FLOOR).log10()
        log_MT = log_MT.maximum(log_MT.max() - _RANGE_LOG10)
        return ((log_MT + 4.0) / 4.0).T


@lru_cache(maxsize=8)
def mel_filters(sample_rate_hz: int, window_samples: int, num_mels: int) -> np.ndarray:
    """float32 (M, F): triangles of equal area (Slaney) between 0 Hz and half the rate, F = window_samples // 2 + 1."""
    frequency_F = np.linspace(0, sample_rate_hz / 2, window_samples // 2 + 1)
    edges = _to_hz(np.linspace(0, _to_mel(sample_rate_hz / 2), num_mels + 2))
    rising = (frequency_F[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency_F[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    triangles: np.ndarray = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return triangles.astype(np.float32)


def _to_mel(hz: float) -> float:
    start = _LINEAR_UP_TO_HZ / _HZ_PER_MEL
    return hz / _HZ_PER_MEL if hz < _LINEAR_UP_TO_HZ else start + math.log(hz / _LINEAR_UP_TO_HZ) / _LOG_STEP


def _to_hz(mel: np.ndarray) -> np.ndarray:
    start = _LINEAR_UP_TO_HZ / _HZ_PER_MEL
    return np.where(mel < start, mel * _HZ_PER_MEL, _LINEAR_UP_TO_HZ * np.exp(_LOG_STEP * (mel - start)))


class MelConvolutions(nn.Module):
    """The module of `LogMel`: as Whisper's encoder begins."""

    def __init__(self, config: LogMel) -> None:
        super().__init__()
        self.first = nn.Conv1d(config.num_mels, config.width, 3, padding=1)
        self.second = nn.Conv1d(config.width, config.width, 3, stride=2, padding=1)
        self.position = position_module(config.position, config.max_frames() // 2 + 1, config.width)

    def forward(self, mel_BTM: Tensor, frames_B: Tensor) -> Tokens:
        there_B1T = (torch.arange(mel_BTM.shape[1], device=mel_BTM.device)[None, :] < frames_B[:, None])[:, None]
        x_BWT = nn.functional.gelu(self.first(mel_BTM.transpose(1, 2))) * there_B1T  # nothing leaks from behind the end
        x_BLW = nn.functional.gelu(self.second(x_BWT)).transpose(1, 2)
        tokens_B = (frames_B + 1) // 2
        place_L = torch.arange(x_BLW.shape[1], device=x_BLW.device)
        return Tokens(self.position(x_BLW), place_L[None, :] < tokens_B[:, None])
