"""What kind of sound each second is, without a model of sounds: silence, speech (by the VAD), tones, noise.

Tones are what music, song and machines that hum have in common: partials that stand for a while. A stretch is tonal
where most of its power lies in peaks of the spectrum that keep their place from frame to frame, and noise where it is
spread. Speech has tones that glide; it is the VAD's to tell.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curation.av.speech import RATE_HZ, Pcm

_WINDOW, _HOP = 1024, 512  # 64 ms: partials of a semitone's distance above 300 Hz are apart
_LOW_HZ, _HIGH_HZ = 80.0, 7_000.0
SILENCE_POWER = 1e-6
"""Mean power of a second below which it is silent (-60 dBFS)."""
TONAL_SHARE = 0.5
"""Share of a second's power in standing peaks from which on it is tonal. White, pink and brown noise stay below 0.35,
notes with overtones are above 0.6 (tests/curation/av/test_sound_kinds.py)."""
_PEAK = 4.0
"""A peak: so many times the median of the 13 bins around it."""


def standing_share(pcm: Pcm) -> npt.NDArray[np.float64]:
    """Share of the power of each second (0-1) that lies in spectral peaks which stand over two frames: float64
    [ceil(n / rate)]; NaN where it is silent. pcm: float32 [n], 16 kHz."""
    from scipy.ndimage import maximum_filter1d, median_filter
    from scipy.signal import stft

    num = -(-len(pcm) // RATE_HZ)
    shares = np.full(num, np.nan)
    if len(pcm) < 4 * _WINDOW:
        return shares
    _, times, spectrum = stft(pcm, RATE_HZ, nperseg=_WINDOW, noverlap=_WINDOW - _HOP, boundary=None, padded=False)
    low, high = (round(hertz * _WINDOW / RATE_HZ) for hertz in (_LOW_HZ, _HIGH_HZ))
    power = (np.abs(spectrum[low:high]) ** 2).astype(np.float64)
    is_peak = power > _PEAK * median_filter(power, size=(13, 1), mode="nearest")
    stands = is_peak[:, 1:] & maximum_filter1d(is_peak.astype(np.uint8), 3, axis=0).astype(bool)[:, :-1]
    stands &= power[:, 1:] < 4 * power[:, :-1] + 1e-12  # a knock has peaks too, but no past
    stands = np.pad(stands, ((0, 0), (1, 0)))
    second = np.minimum((times).astype(int), num - 1)
    whole = np.bincount(second, power.sum(axis=0), num)
    inside = np.bincount(second, (power * stands).sum(axis=0), num)
    loud = np.array([float(np.mean(pcm[k * RATE_HZ : (k + 1) * RATE_HZ] ** 2)) > SILENCE_POWER for k in range(num)])
    shares[loud & (whole > 0)] = (inside / np.maximum(whole, 1e-30))[loud & (whole > 0)]
    return shares
