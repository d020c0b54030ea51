"""Whether sound and picture belong together in time: onsets of the sound against changes of the picture.

Two envelopes on one clock are correlated at all shifts up to a second. The best shift is the offset of the sound; how
far it stands out of the others is the confidence. A sign of correspondence without a model; it says something where
things are seen to make their sound (strikes, steps, speech near the mouth), nothing about music over pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import stft

Floats = npt.NDArray[np.float64]

CLOCK_HZ = 200
"""Of the envelopes: 5 ms."""
MAX_SHIFT_S = 1.0
_FLUX_WINDOW_S, _FLUX_HOP_S = 0.02, 1 / CLOCK_HZ
_SMOOTH_S = 0.02  # of the sound: a frame of video is no sharper than its length


@dataclass(frozen=True)
class Correspondence:
    """offset_s: how much later than the picture the sound is. confidence: peak of the correlation over the mean of the
    other shifts, in their standard deviations (below 4 it is chance). correlation: at the best shift (-1 to 1)."""

    offset_s: float
    confidence: float
    correlation: float


def onset_strength(pcm: npt.NDArray[np.float32], rate_hz: int) -> tuple[Floats, float]:
    """Spectral flux, compressed and rectified: (float64 [k] at 200 Hz, time of its first value). pcm: float32 [n]."""
    size, hop = round(rate_hz * _FLUX_WINDOW_S), rate_hz / CLOCK_HZ
    if len(pcm) < 2 * size:
        return np.zeros(0), 0.0
    step = round(hop)
    _, _, spectrum = stft(pcm, rate_hz, nperseg=size, noverlap=size - step, boundary=None, padded=False)
    level = np.log1p(1000 * np.abs(spectrum))
    flux = np.maximum(np.diff(level, axis=1), 0).sum(axis=0)
    return np.asarray(flux, np.float64), (size / 2 + step / 2) / rate_hz


def change_strength(steps: Floats) -> Floats:
    """How suddenly the motion of the picture changes: float64 [n], for each frame. steps: mean absolute difference of
    each frame to the one before, in levels; that of the first is taken to be the second's.

    Their rise, so that a steady motion counts little and a strike counts much.
    """
    if len(steps) < 3:
        return np.zeros(len(steps))
    steps = np.concatenate([steps[1:2], steps[1:]])
    usual = np.median(steps)
    return np.asarray(np.maximum(np.diff(steps, prepend=steps[:1]), 0) / (usual + 1.0))


def correspondence(
    steps: Floats,
    times_s: Floats,
    pcm: npt.NDArray[np.float32],
    rate_hz: int,
    audio_start_s: float = 0.0,
) -> Correspondence | None:
    """None where either says nothing (a still picture, silence) or both together last less than two seconds.

    steps: of frames at times_s, as of `change_strength`; pcm: float32 [n], one channel, its first sample at
    audio_start_s.
    """
    flux, delay = onset_strength(pcm, rate_hz)
    change = change_strength(steps)
    if len(flux) == 0 or len(change) < 3:
        return None
    begin = max(times_s[0], audio_start_s + delay)
    end = min(times_s[-1], audio_start_s + delay + len(flux) / CLOCK_HZ)
    if end - begin < 2 * MAX_SHIFT_S:
        return None
    clock = np.arange(begin, end, 1 / CLOCK_HZ)
    # What a frame shows happened since the one before: half a frame earlier on average, and smeared over a frame.
    frame_s = float(np.median(np.diff(times_s)))
    seen = np.interp(clock, times_s - frame_s / 2, change)
    heard = np.interp(clock, audio_start_s + delay + np.arange(len(flux)) / CLOCK_HZ, flux)
    width = max(1, round(max(_SMOOTH_S, frame_s) * CLOCK_HZ))
    heard = np.convolve(heard, np.hanning(width + 2)[1:-1] / (width / 2), "same")
    seen, heard = _standard(seen), _standard(heard)
    if not seen.any() or not heard.any():
        return None
    shifts = np.arange(-round(MAX_SHIFT_S * CLOCK_HZ), round(MAX_SHIFT_S * CLOCK_HZ) + 1)
    scores = np.array([_at(seen, heard, int(shift)) for shift in shifts])
    best = int(scores.argmax())
    near = np.abs(shifts - shifts[best]) <= 2 * width
    others = scores[~near]
    spread = float(others.std())
    return Correspondence(
        offset_s=float(shifts[best]) / CLOCK_HZ,
        confidence=float((scores[best] - others.mean()) / spread) if spread > 0 else 0.0,
        correlation=float(scores[best]),
    )


def _standard(values: Floats) -> Floats:
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros(len(values))


def _at(seen: Floats, heard: Floats, shift: int) -> float:
    """Correlation with `heard` taken `shift` ticks later."""
    if shift >= 0:
        a, b = seen[: len(seen) - shift], heard[shift:]
    else:
        a, b = seen[-shift:], heard[: len(heard) + shift]
    return float(a @ b) / len(a)
