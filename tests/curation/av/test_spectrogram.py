"""The picture of a sound: tones stand where they belong, levels are what they are, silence is dark."""

from __future__ import annotations

import numpy as np
import pytest

from curation.av.spectrogram import CEILING_DB, FLOOR_DB, extremes, log_mel, mel_edges_hz, sound_picture

RATE_HZ = 16_000


def tone(hz: float, seconds: float = 1.0, amplitude: float = 1.0) -> np.ndarray:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * hz * times)).astype(np.float32)


@pytest.mark.parametrize("hz", [120.0, 440.0, 1000.0, 3300.0, 7000.0])
def test_a_tone_is_loudest_in_the_band_that_holds_it(hz: float) -> None:
    loudest = log_mel(tone(hz), RATE_HZ, 50).mean(axis=1).argmax()
    edges = mel_edges_hz(RATE_HZ)
    assert edges[loudest] <= hz <= edges[loudest + 2]


def test_levels_fall_as_the_sound_does_and_not_below_the_floor() -> None:
    loud, soft = (log_mel(tone(1000, amplitude=a), RATE_HZ, 20)[:, 5:15].max() for a in (0.5, 0.05))
    assert loud - soft == pytest.approx(20.0, abs=0.01)
    assert -8 < log_mel(tone(1000), RATE_HZ, 20).max() < 3  # a full-scale sine, shared by two triangles
    assert (log_mel(np.zeros(100, np.float32), RATE_HZ, 20) == FLOOR_DB).all()


def test_moments_are_spread_over_the_whole_sound() -> None:
    sound = np.concatenate([np.zeros(RATE_HZ, np.float32), tone(2000)])
    levels = log_mel(sound, RATE_HZ, 40).max(axis=0)
    assert (levels[:19] == FLOOR_DB).all()
    assert (levels[21:] > CEILING_DB).all()


def test_extremes_are_those_of_a_loop() -> None:
    pcm = np.random.default_rng(0).normal(0, 0.2, 1003).astype(np.float32)
    low, high = extremes(pcm, 17)
    edges = [int(k * 1003 / 17) for k in range(18)]
    for k in range(17):
        piece = [float(each) for each in pcm[edges[k] : edges[k + 1]]]
        assert (low[k], high[k]) == (min(piece), max(piece))
    assert extremes(pcm[:3], 5)[0].shape == (5,)


def test_the_picture_has_the_wave_above_the_bands() -> None:
    picture = sound_picture(tone(1000, amplitude=0.5), RATE_HZ, num_columns=30, wave_px=20, num_mels=32)
    assert picture.shape == (52, 30, 3)
    assert picture.dtype == np.uint8
    is_wave = (picture[:20] != picture[0, 0]).any(axis=-1)
    assert not is_wave[:4].any()  # half of full scale: the outer quarters are empty
    assert is_wave[6:14].all()
    silent = sound_picture(np.zeros(RATE_HZ, np.float32), RATE_HZ, num_columns=30, wave_px=20, num_mels=32)
    assert (silent[20:] == silent[20, 0]).all()
    assert silent[20:].max() < 30


def test_sound_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        log_mel(np.array([0.0, np.nan], np.float32), RATE_HZ, 4)
