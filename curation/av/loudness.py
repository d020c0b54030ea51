"""Loudness by ITU-R BS.1770-4 (LUFS), and levels: peak, clipping, silence, noise, bandwidth.

PCM is float32 [n, channels], full scale -1 to 1, at its own rate: resampling smooths clipped tops away.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.fft import rfft
from scipy.signal import lfilter

Pcm = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

# BS.1770-4, annex 1, as analogue prototypes so that they hold at any rate (De Man, "Evaluation of implementations of
# the EBU R128 loudness measurement", AES 2018): a high shelf for the head and a high pass.
_SHELF_HZ, _SHELF_DB, _SHELF_Q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
_HIGH_PASS_HZ, _HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773
_ABSOLUTE_GATE_LUFS, _RELATIVE_GATE_LU, _OFFSET = -70.0, -10.0, -0.691
MIN_RATE_HZ = 4_000
"""Sample rate below which the shelf lies beyond what the samples can hold, so that there is no loudness."""
_BLOCK_S, _HOP_S = 0.4, 0.1  # blocks of 400 ms that overlap by 75%

_HANN_2048 = np.hanning(2049)[:-1].astype(np.float32)

CLIP_LEVEL = 0.999
"""Of full scale: a sample at or above it may be clipped. 16-bit full scale is 0.99997."""
CLIP_RUN = 3
"""Samples in a row at that level that count as clipped: single ones are peaks."""
WINDOW_S = 0.02
SILENCE_DBFS = -60.0
"""RMS of a window below which it is silent: under the noise of most recordings, above dithered digital silence."""


def _filters(rate_hz: int) -> list[tuple[list[float], list[float]]]:
    """(b, a) of the shelf and of the high pass at this rate."""
    k, gain = math.tan(math.pi * _SHELF_HZ / rate_hz), 10 ** (_SHELF_DB / 20)
    band = gain**0.4996667741545416
    over = 1 + k / _SHELF_Q + k * k
    shelf_b = [(gain + band * k / _SHELF_Q + k * k) / over, 2 * (k * k - gain) / over]
    shelf_b.append((gain - band * k / _SHELF_Q + k * k) / over)
    shelf_a = [1.0, 2 * (k * k - 1) / over, (1 - k / _SHELF_Q + k * k) / over]
    k = math.tan(math.pi * _HIGH_PASS_HZ / rate_hz)
    over = 1 + k / _HIGH_PASS_Q + k * k
    return [
        (shelf_b, shelf_a),
        ([1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / over, (1 - k / _HIGH_PASS_Q + k * k) / over]),
    ]


class LoudnessMeter:
    """K-weighted power in steps of 100 ms, from PCM piece by piece; then loudness of any range of it. Below 4 kHz there
    are no steps."""

    def __init__(self, rate_hz: int) -> None:
        self._filters = _filters(rate_hz) if rate_hz >= MIN_RATE_HZ else None
        self._states: list[Floats] | None = None
        self._hop = round(rate_hz * _HOP_S)
        self._rest: Floats = np.zeros(0)
        self._steps: list[Floats] = []

    def add(self, pcm: Pcm) -> None:
        """pcm: float32 [n, channels]; one or two channels, each of weight 1."""
        if self._filters is None:
            return
        if self._states is None:
            self._states = [np.zeros((2, pcm.shape[1])) for _ in self._filters]
        weighted = pcm.astype(np.float64)
        for k, (b, a) in enumerate(self._filters):
            weighted, self._states[k] = lfilter(b, a, weighted, axis=0, zi=self._states[k])
        power = np.concatenate([self._rest, (weighted**2).sum(axis=1)])
        whole = len(power) // self._hop * self._hop
        if whole:
            self._steps.append(power[:whole].reshape(-1, self._hop).mean(axis=1))
        self._rest = power[whole:]

    def steps(self) -> Floats:
        """Mean power of each whole 100 ms: float64 [k]."""
        return np.concatenate(self._steps) if self._steps else np.zeros(0)


def integrated_lufs(steps: Floats) -> float | None:
    """Integrated loudness in LUFS (0 is full scale, speech on the air -23, films' quiet parts below -40) of `steps` of
    100 ms; None where there is less than one block of 400 ms or all of it is below -70 LUFS."""
    per_block = round(_BLOCK_S / _HOP_S)
    if len(steps) < per_block:
        return None
    power = np.convolve(steps, np.ones(per_block) / per_block, "valid")
    loud = power[_lufs(power) > _ABSOLUTE_GATE_LUFS]
    if len(loud) == 0:
        return None
    gate = float(_lufs(loud.mean())) + _RELATIVE_GATE_LU
    kept = loud[_lufs(loud) > gate]
    return float(_lufs(kept.mean())) if len(kept) else None


def _lufs(power: Floats | float) -> Floats:
    return np.asarray(_OFFSET + 10 * np.log10(np.maximum(power, 1e-12)))


def loudness_lufs(pcm: Pcm, rate_hz: int) -> float | None:
    """Integrated loudness of the whole; see `integrated_lufs`."""
    if len(pcm) == 0:
        return None
    meter = LoudnessMeter(rate_hz)
    meter.add(pcm)
    return integrated_lufs(meter.steps())


def clip_share(pcm: Pcm) -> float:
    """Share of samples (0-1) in runs of at least three at full scale, of the channel where it is highest."""
    worst = 0.0
    for channel in pcm.T:
        at_top = np.abs(channel) >= CLIP_LEVEL
        edges = np.flatnonzero(np.diff(np.concatenate([[False], at_top, [False]]).astype(np.int8)))
        runs = edges[1::2] - edges[::2]
        worst = max(worst, float(runs[runs >= CLIP_RUN].sum()) / max(1, len(channel)))
    return worst


def window_rms(pcm: Pcm, rate_hz: int) -> Floats:
    """RMS of each whole window of 20 ms, over all channels: float64 [k]."""
    size = max(1, round(rate_hz * WINDOW_S))
    whole = len(pcm) // size * size
    if whole == 0:
        return np.zeros(0)
    power = (pcm[:whole].astype(np.float64) ** 2).mean(axis=1)
    return np.asarray(np.sqrt(power.reshape(-1, size).mean(axis=1)))


def silence_share(pcm: Pcm, rate_hz: int) -> float | None:
    """Share of windows of 20 ms whose RMS is below `SILENCE_DBFS` (0-1); None where there is no whole window."""
    rms = window_rms(pcm, rate_hz)
    return float((rms < 10 ** (SILENCE_DBFS / 20)).mean()) if len(rms) else None


def snr_db(pcm: Pcm, rate_hz: int) -> float | None:
    """Estimate of the signal-to-noise ratio in dB from the windows' powers: the 95th against the 10th percentile, which
    is taken for the noise. Right for a signal with pauses in steady noise; at its least for any steady sound.

    None without five windows or where all is digital silence; -20 to 100.
    """
    power = window_rms(pcm, rate_hz) ** 2
    if len(power) < 5 or power.max() <= 0:
        return None
    noise, loud = np.percentile(power, 10), np.percentile(power, 95)
    return float(np.clip(10 * np.log10(max(loud - noise, 1e-12) / max(noise, 1e-12)), -20, 100))


def bandwidth_hz(pcm: Pcm, rate_hz: int) -> float | None:
    """Highest frequency whose mean power is within 50 dB of the strongest band: tells audio that was sampled up
    (or coded at a low rate) from audio with a true high rate. None for silence and below 2,048 samples."""
    if len(pcm) < 2048:
        return None
    mono = pcm.mean(axis=1, dtype=np.float32) if pcm.shape[1] > 1 else pcm[:, 0]
    windows = mono[: len(mono) // 2048 * 2048].reshape(-1, 2048) * _HANN_2048
    power = (np.abs(rfft(windows)) ** 2).mean(axis=0, dtype=np.float64)
    if power.max() <= 1e-10:  # of what is below -110 dBFS
        return None
    audible = np.flatnonzero(power >= power.max() * 1e-5)
    return float(audible[-1] * rate_hz / 2048)
