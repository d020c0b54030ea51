from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest

from curation.av.loudness import (
    LoudnessMeter,
    bandwidth_hz,
    clip_share,
    integrated_lufs,
    loudness_lufs,
    silence_share,
    snr_db,
)
from tests.curation.av import media


def _sounds(rate: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rate)
    noise = rng.normal(0, 0.05, (rate * 4, 2)).astype(np.float32)
    swell = noise * np.linspace(0.001, 3, len(noise))[:, None].astype(np.float32)
    gaps = media.music(6, 3, rate).copy()
    gaps[rate : 3 * rate] *= 0.001
    return {
        "tone": media.tone(3, 997, 0.5, rate),
        "bass": media.tone(3, 60, 0.5, rate),
        "high": media.tone(3, 3500, 0.1, rate),
        "noise": noise,
        "swell": swell.astype(np.float32),
        "gaps": gaps,
        "music": media.music(8, 1, rate),
    }


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_loudness_is_within_half_a_unit_of_pyloudnorm(rate: int) -> None:
    for name, pcm in _sounds(rate).items():
        oracle = pyloudnorm.Meter(rate).integrated_loudness(pcm.astype(np.float64))
        found = loudness_lufs(pcm, rate)
        assert found == pytest.approx(oracle, abs=0.5), name
        if rate == 48_000:
            assert found == pytest.approx(oracle, abs=0.1), name


def test_reference_levels() -> None:
    full = media.tone(5, 997, 1.0)
    assert loudness_lufs(full, 48_000) == pytest.approx(-3.01, abs=0.05)  # BS.1770-4, annex 1
    assert loudness_lufs(np.repeat(full, 2, axis=1), 48_000) == pytest.approx(0.0, abs=0.05)
    assert loudness_lufs(full / 10, 48_000) == pytest.approx(-23.01, abs=0.05)
    assert loudness_lufs(np.zeros((48_000, 1), np.float32), 48_000) is None
    assert loudness_lufs(full[:9_600], 48_000) is None
    assert loudness_lufs(full[:0], 48_000) is None


def test_pieces_are_the_whole() -> None:
    pcm, meter = media.music(5, 2), LoudnessMeter(48_000)
    for first in range(0, len(pcm), 7_001):
        meter.add(pcm[first : first + 7_001])
    assert integrated_lufs(meter.steps()) == pytest.approx(loudness_lufs(pcm, 48_000), abs=1e-9)


def test_clipping() -> None:
    sound = media.tone(1, 440, 0.9)
    assert clip_share(sound) == 0.0
    loud = (media.tone(1, 440, 2.0)).clip(-1, 1)
    expected = 1 - 2 * np.arcsin(0.5) / np.pi  # a sine of twice full scale is above it two thirds of the time
    assert clip_share(loud) == pytest.approx(expected, abs=0.01)
    assert clip_share(np.concatenate([sound, loud], axis=1)) == clip_share(loud)
    peaks = np.zeros((1000, 1), np.float32)
    peaks[::10] = 1.0
    assert clip_share(peaks) == 0.0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.8, 1.0])
def test_silence(share: float) -> None:
    sound = media.tone(10, 440, 0.2)
    sound[: round(share * len(sound))] *= 1e-4  # -94 dBFS
    assert silence_share(sound, 48_000) == pytest.approx(share, abs=0.01)
    assert silence_share(sound[:10], 48_000) is None


@pytest.mark.parametrize("wanted", [5.0, 15.0, 30.0])
def test_snr_of_bursts_in_noise(wanted: float) -> None:
    rng = np.random.default_rng(1)
    bursts = media.tone(10, 440, 0.3) * (np.arange(480_000)[:, None] % 48_000 < 24_000)
    noise = rng.normal(0, 0.3 / np.sqrt(2) * 10 ** (-wanted / 20), bursts.shape)
    assert snr_db((bursts + noise).astype(np.float32), 48_000) == pytest.approx(wanted, abs=2.0)
    assert snr_db(np.zeros((48_000, 1), np.float32), 48_000) is None


def test_bandwidth_sees_through_resampling() -> None:
    from scipy.signal import resample_poly

    rng = np.random.default_rng(0)
    true = rng.normal(0, 0.1, (96_000, 1)).astype(np.float32)
    assert bandwidth_hz(true, 48_000) == pytest.approx(24_000, abs=100)
    up = resample_poly(rng.normal(0, 0.1, (16_000, 1)), 6, 1).astype(np.float32)
    assert 3_900 < (bandwidth_hz(up, 48_000) or 0) < 6_000  # 4 kHz and what the resampling filter lets through
    assert bandwidth_hz(np.zeros((9_000, 1), np.float32), 48_000) is None


@pytest.mark.family("F11")
def test_planted_silent_and_clipped_tracks_are_all_caught() -> None:
    """F11 (d), of 200 tracks, by the thresholds of the published recipes: all that were planted and no others."""
    rng = np.random.default_rng(0)
    tracks = [media.music(1.0, seed, rate=16_000) * rng.uniform(0.2, 1.0) for seed in range(200)]
    silent, clipped = set(range(0, 200, 10)), set(range(5, 200, 10))
    for number in silent:
        tracks[number][round(rng.uniform(0, 0.15) * 16_000) :] = rng.normal(0, 1e-4 * (number % 20 > 0))
    for number in clipped:
        tracks[number] = (tracks[number] / np.abs(tracks[number]).max() * rng.uniform(2.5, 8)).clip(-1, 1)
    tracks = [each.clip(-1, 1).astype(np.float32) for each in tracks]
    assert {number for number, each in enumerate(tracks) if (silence_share(each, 16_000) or 0) > 0.8} == silent
    assert {number for number, each in enumerate(tracks) if clip_share(each) > 0.01} == clipped


@pytest.mark.parametrize("rate", [500, 2000, 3362, 3364, 4000])
def test_no_loudness_where_the_filter_cannot_be(rate: int) -> None:
    """Half the sample rate is below the shelf's 1,682 Hz: it was 78 LUFS, or no number."""
    found = loudness_lufs(media.tone(3, 100, 0.3, rate), rate)
    assert found == (None if rate < 4000 else pytest.approx(-14.8, abs=0.1))
