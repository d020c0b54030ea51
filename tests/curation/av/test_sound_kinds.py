from __future__ import annotations

import numpy as np
import pytest

from curation.av.segment_signal import DecodedSegment
from curation.av.sound_kinds import RATE_HZ, TONAL_SHARE, standing_share
from curation.media.av_types import Samples
from curation.signals.sound_kinds import SoundKinds
from tests.curation.av import media
from tests.curation.av.test_speech import voice


def noise(seconds: float, slope: float, seed: int) -> np.ndarray:
    """Noise whose power falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown."""
    rng = np.random.default_rng(seed)
    num = round(seconds * RATE_HZ)
    spectrum = np.fft.rfft(rng.normal(0, 1, num))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (slope / 2)
    out = np.fft.irfft(spectrum, num)
    return (0.2 * out / np.abs(out).max()).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_tones_stand_and_noise_does_not(seed: int) -> None:
    for slope in (0.0, 1.0, 2.0):
        assert standing_share(noise(4.0, slope, seed)).max() < TONAL_SHARE
    music = media.music(4.0, seed, RATE_HZ)[:, 0]
    assert np.median(standing_share(music)) > TONAL_SHARE
    assert standing_share(media.tone(3.0, 440, rate=RATE_HZ)[:, 0]).min() > 0.9


def test_silence_has_no_share() -> None:
    pcm = np.concatenate([np.zeros(RATE_HZ, np.float32), noise(1.0, 0, 0)])
    found = standing_share(pcm)
    assert np.isnan(found).tolist() == [True, False]
    assert np.isnan(standing_share(pcm[:10])).all()


def test_a_segment_of_four_kinds_is_told_apart() -> None:
    parts = [media.music(6.0, 1, RATE_HZ)[:, 0], noise(5.0, 1, 1), np.zeros(4 * RATE_HZ, np.float32), voice(5.0)]
    sound = Samples(0, 0.0, RATE_HZ, np.concatenate(parts)[:, None])
    row = SoundKinds().of_segment(DecodedSegment(speech=sound))
    assert sum(float(value) for value in row.values()) == pytest.approx(1.0)  # type: ignore[arg-type]
    for kind, seconds in (("tonal", 6), ("noise", 5), ("silent", 4), ("speech", 5)):
        assert row[f"kind_{kind}_share"] == pytest.approx(seconds / 20, abs=0.1), kind
    assert set(SoundKinds().of_segment(DecodedSegment()).values()) == {None}
