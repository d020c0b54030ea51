"""Sound as a picture for people to look at: its waveform above its log-mel spectrogram.

Shape suffixes: N samples, T columns (time), W window, F frequencies, M mel bands (lowest first).
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WINDOW_S = 0.032
"""Of one spectrum: 31 Hz apart at any rate; speech's formants and pitch are both told apart."""
NUM_MELS = 64
FLOOR_DB, CEILING_DB = -90.0, -10.0
"""Levels drawn darkest and brightest, of a band's mean power against a full-scale sine. Fixed: silence looks silent."""
_HTK = 2595.0
"""m = 2595 log10(1 + f / 700 Hz), the mel scale of O'Shaughnessy 1987 and of HTK."""
_COLOURS = np.array([(8, 8, 24), (62, 18, 94), (152, 40, 100), (226, 90, 54), (250, 176, 60), (255, 250, 200)], float)
"""Dark to bright, each step lighter than the one before, so the picture can be read without colours too."""


def mel_edges_hz(rate_hz: int, num_mels: int = NUM_MELS) -> NDArray[np.float64]:
    """float64 [M + 2]: where the triangles begin, peak and end, evenly spread in mel from 0 to half the rate."""
    top = _HTK * np.log10(1 + rate_hz / 2 / 700)
    return np.asarray(700 * (10 ** (np.linspace(0, top, num_mels + 2) / _HTK) - 1))


@lru_cache(maxsize=4)
def _filters_MF(rate_hz: int, window: int, num_mels: int) -> NDArray[np.float64]:
    frequency_F = np.fft.rfftfreq(window, 1 / rate_hz)
    edges = mel_edges_hz(rate_hz, num_mels)
    rising = (frequency_F - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency_F) / (edges[2:] - edges[1:-1])[:, None]
    weights_MF = np.maximum(0, np.minimum(rising, falling))
    nearest = np.abs(frequency_F - edges[1:-1, None]).argmin(axis=1)  # of bands narrower than a step of F
    weights_MF[np.arange(num_mels), nearest] = np.maximum(weights_MF[np.arange(num_mels), nearest], 1e-3)
    return np.asarray(weights_MF)


def log_mel(
    pcm_N: NDArray[np.float32], rate_hz: int, num_columns: int, num_mels: int = NUM_MELS
) -> NDArray[np.float64]:
    """float64 [M, T] in dB: the power in each mel band around each of `num_columns` moments, evenly spread.

    0 dB is the power of a full-scale sine; nothing is below FLOOR_DB. Raises ValueError for sound that is not finite.
    """
    if not np.isfinite(pcm_N).all():
        raise ValueError("sound with samples that are not finite")
    window = round(WINDOW_S * rate_hz)
    padded = np.pad(pcm_N.astype(np.float64), window // 2 + 1)
    centres = (np.arange(num_columns) + 0.5) / num_columns * len(pcm_N)
    starts = np.minimum(centres.astype(int) + 1, len(padded) - window)
    hann_W = np.hanning(window)
    spectrum_TF = np.fft.rfft(padded[starts[:, None] + np.arange(window)] * hann_W)
    power_TF = np.abs(spectrum_TF / (hann_W.sum() / 2)) ** 2
    power_MT = _filters_MF(rate_hz, window, num_mels) @ power_TF.T
    return np.asarray(np.maximum(10 * np.log10(np.maximum(power_MT, 1e-12)), FLOOR_DB))


def extremes(pcm_N: NDArray[np.float32], num_columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lowest, highest) sample, float64 [T] each, of `num_columns` equal stretches; 0 of one without samples."""
    edges = np.linspace(0, len(pcm_N), num_columns + 1).astype(int)
    pieces = [pcm_N[start:end] for start, end in itertools.pairwise(edges)]
    low = np.array([piece.min() if len(piece) else 0.0 for piece in pieces], float)
    high = np.array([piece.max() if len(piece) else 0.0 for piece in pieces], float)
    return low, high


def sound_picture(
    pcm_N: NDArray[np.float32], rate_hz: int, num_columns: int = 360, wave_px: int = 40, num_mels: int = NUM_MELS
) -> NDArray[np.uint8]:
    """uint8 [wave_px + num_mels, num_columns, 3]: the waveform (full scale is its height), below it the spectrogram
    with the highest band on top."""
    level = (log_mel(pcm_N, rate_hz, num_columns, num_mels) - FLOOR_DB) / (CEILING_DB - FLOOR_DB)
    place = np.clip(level, 0, 1)[::-1] * (len(_COLOURS) - 1)
    steps = np.arange(len(_COLOURS))
    bands = np.stack([np.interp(place, steps, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    low, high = extremes(pcm_N, num_columns)
    row = np.linspace(1, -1, wave_px)
    half = 1.0 / (wave_px - 1)  # half the distance of two rows: silence is a line
    is_drawn = (row[:, None] <= high + half) & (row[:, None] >= low - half)
    wave = np.where(is_drawn[..., None], _COLOURS[-2], _COLOURS[0])
    return np.asarray(np.concatenate([wave, bands]).round().astype(np.uint8))
