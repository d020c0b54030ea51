"""Fingerprints of video and audio in time: what stays the same through containers, codecs, sizes and trims.

Video: a 64-bit perceptual hash of the frame that is shown at each fifth of a second. Audio: 32 bits for each 23 ms
(Haitsma and Kalker, "A highly robust audio fingerprinting system", ISMIR 2002: signs of the differences of neighbouring
bands' energies in time). `curation.av.copies` compares them.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FRAME_RATE_HZ = 5.0
FRAME_SIZE_PX = (32, 32)
"""To which a frame is shrunk."""
MIN_CONTRAST = 6.0
"""Standard deviation of the grey levels below which a frame is too flat to be told from others."""
AUDIO_RATE_HZ = 8_000
_WINDOW, _HOP = 2_976, 186  # 0.372 s as in the paper, and 23.25 ms (there 11.6; the window makes both slow)
AUDIO_HOP_S = _HOP / AUDIO_RATE_HZ
_BANDS, _LOW_HZ, _HIGH_HZ = 33, 300.0, 2_000.0
MIN_POWER = 1e-7
"""Mean power below which audio is too quiet to be told from other silence (-70 dBFS)."""


def frame_hashes(
    grey: npt.NDArray[np.uint8], min_contrast: float = MIN_CONTRAST
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """(hash, whether the frame has enough contrast to be known by it) for each frame. grey: uint8 [n, H, W].

    Signs of the 64 lowest frequencies of the cosine transform of the frame shrunk to 32 x 32 (means of areas) against
    their median, the mean left out: unchanged by brightness and contrast. Shrinking and the transform are one linear
    map on each axis, so the small frame is never made. min_contrast: in levels of `grey`.
    """
    if len(grey) == 0:
        return np.zeros(0, np.uint64), np.zeros(0, bool)
    left, right = _maps(grey.shape[1], grey.shape[2])
    values = grey.astype(np.float32)
    low = (left @ values @ right).reshape(len(grey), -1)[:, 1:65]  # without the mean
    bits = low > np.median(low, axis=1, keepdims=True)
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    contrast = values.reshape(len(grey), -1).std(axis=1)
    return (bits * weights).sum(axis=1, dtype=np.uint64), np.asarray(contrast >= min_contrast)


@lru_cache(maxsize=4)
def _maps(height: int, width: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(9, height) and (width, 8): means over the areas of 32 x 32 pixels, then the lowest frequencies of their DCT."""
    to_width, to_height = FRAME_SIZE_PX
    left = _dct_rows(9, to_height) @ _areas(height, to_height)
    right = (_dct_rows(8, to_width) @ _areas(width, to_width)).T
    return left.astype(np.float32), np.ascontiguousarray(right, np.float32)


def _dct_rows(num: int, size: int) -> npt.NDArray[np.float64]:
    """(num, size): the `num` lowest frequencies of the orthonormal cosine transform (type II) of `size` values."""
    rows = np.cos(np.pi * np.arange(num)[:, None] * (np.arange(size) + 0.5) / size) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows)


def _areas(size: int, to: int) -> npt.NDArray[np.float64]:
    """(to, size): the share of each of `size` pixels in each of `to` larger ones."""
    edges = np.arange(to + 1) * size / to
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.maximum(overlap, 0) * to / size)


def audio_hashes(pcm: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """(hash, whether there is anything to hear) for each 23 ms. pcm: float32 [n], 8 kHz."""
    if len(pcm) < _WINDOW + _HOP:
        return np.zeros(0, np.uint32), np.zeros(0, bool)
    from scipy.signal import stft  # at the first call: a run of pictures alone need not spend half a second

    _, _, spectrum = stft(pcm, AUDIO_RATE_HZ, nperseg=_WINDOW, noverlap=_WINDOW - _HOP, boundary=None, padded=False)
    power = np.abs(spectrum) ** 2
    edges = np.geomspace(_LOW_HZ, _HIGH_HZ, _BANDS + 1)
    at = np.round(edges * _WINDOW / AUDIO_RATE_HZ).astype(int)
    bands = np.stack([power[a : max(b, a + 1)].sum(axis=0) for a, b in itertools.pairwise(at)])
    across = bands[:-1] - bands[1:]
    bits = (across[:, 1:] - across[:, :-1]) > 0
    weights = (np.uint32(1) << np.arange(_BANDS - 1, dtype=np.uint32))[:, None]
    hashes = (bits * weights).sum(axis=0, dtype=np.uint32)
    return hashes, np.asarray(power.sum(axis=0)[1:] > MIN_POWER)
