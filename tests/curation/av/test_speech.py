from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from silero_vad.utils_vad import get_speech_timestamps_from_probs, init_jit_model

from curation.av.speech import (
    SpeechSegmentation,
    SpeechSpans,
    dnsmos,
    speech_probabilities,
    speech_probabilities_of_cut,
)
from curation.weights import packaged
from tests.curation.av import media

PROBABILITIES = st.lists(st.sampled_from([0.0, 0.2, 0.36, 0.45, 0.5, 0.9]), max_size=200)


CURATOR_AUDIO = SpeechSegmentation(
    spans=SpeechSpans(min_silence_s=0.5, pad_s=0.3), min_s=2.0, max_s=60.0, max_gap_s=0.0
)
"""NeMo Curator's advanced audio filter: threshold 0.5, 2 to 60 s, least gap 0.5 s, padding 0.3 s."""


def voice(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """A buzz through the formants of five vowels, in syllables: what a VAD takes for speech. float32 [n]."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    num = round(seconds * rate)
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * np.arange(num) / rate) + np.cumsum(rng.normal(0, 0.02, num))
    phase = np.cumsum(pitch / rate)
    buzz = (np.diff(np.floor(phase), prepend=0) > 0).astype(float) + rng.normal(0, 0.01, num)
    out, at = np.zeros(num), 0
    vowels = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)]
    while at < num:
        length = int(rng.uniform(0.12, 0.25) * rate)
        part = buzz[at : at + length]
        for formant in vowels[int(rng.integers(5))]:
            radius = np.exp(-np.pi * 80 / rate)
            part = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * formant / rate), radius**2], part)
        out[at : at + len(part)] = part * np.hanning(len(part))
        at += int(length * rng.uniform(1.0, 1.3))
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


def test_probabilities_are_those_of_the_packages_own_model() -> None:
    """The jit file of the same package, driven as the package drives it."""
    import torch

    pcm = np.concatenate([np.zeros(8000, np.float32), voice(2.0), media.tone(0.5, 440, rate=16_000)[:, 0]])[:39_000]
    found = speech_probabilities(pcm)
    model = init_jit_model(str(packaged("silero_vad", "data/silero_vad.jit")))
    padded = torch.nn.functional.pad(torch.from_numpy(pcm), (0, len(found) * 512 - len(pcm)))
    with torch.no_grad():
        oracle = [model(window, 16_000).item() for window in padded.split(512)]
    np.testing.assert_allclose(found, oracle, atol=0.02)
    assert found[:10].max() < 0.2


@given(PROBABILITIES)
def test_spans_are_silero_vads(probabilities: list[float]) -> None:
    length = len(probabilities) * 512
    oracle = get_speech_timestamps_from_probs(probabilities, audio_length_samples=length)
    found = SpeechSpans().of(probabilities, length / 16_000)
    assert [(s.start_s, s.end_s) for s in found] == [
        (pytest.approx(o["start"] / 16_000, abs=1.1 / 16_000), pytest.approx(o["end"] / 16_000, abs=1.1 / 16_000))
        for o in oracle
    ]


@given(PROBABILITIES.map(lambda values: [v for v in values for _ in range(20)]))
def test_segments_keep_to_their_lengths(probabilities: list[float]) -> None:
    length_s = len(probabilities) * 0.032
    for settings in (SpeechSegmentation(), CURATOR_AUDIO):
        spans = settings.of(probabilities, length_s)
        assert all(settings.min_s - 1e-6 <= span.length_s <= settings.max_s + 1e-6 for span in spans)
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(spans))
        assert all(span.start_s >= 0 and span.end_s <= length_s + 1e-9 for span in spans)


def _probabilities(*spans: tuple[float, float], length_s: float) -> list[float]:
    times = np.arange(round(length_s / 0.032)) * 0.032
    return [float(any(a <= t < b for a, b in spans)) for t in times]


def test_short_spans_are_joined_long_ones_cut() -> None:
    def of(*spans: tuple[float, float]) -> list[tuple[float, float]]:
        found = SpeechSegmentation().of(_probabilities(*spans, length_s=100), 100)
        return [(round(s.start_s, 1), round(s.end_s, 1)) for s in found]

    assert of((1, 3), (4, 6)) == [(1.0, 6.0)]  # each below 3 s, 1 s apart
    assert of((1, 3), (6, 8)) == []  # too far apart, too short
    assert of((1, 66)) == [(1.0, 31.0), (31.0, 61.0), (61.0, 66.0)]
    assert of((1, 30), (30.5, 32)) == [(1.0, 30.0)]  # together they would be above 30 s


def test_dnsmos_tells_noise_from_speech() -> None:
    rng = np.random.default_rng(0)
    clean = voice(10.0)
    noisy = (clean + rng.normal(0, 0.15, len(clean))).clip(-1, 1).astype(np.float32)
    good, bad = dnsmos(clean), dnsmos(noisy)
    assert good is not None
    assert bad is not None
    assert all(0.5 < value < 5.5 for value in (*good, *bad))
    assert good[1] > bad[1] + 0.5  # the background
    short = dnsmos(clean[:16_000])  # shorter than the model's window
    assert short == dnsmos(np.tile(clean[:16_000], 10)[:144_160])
    assert dnsmos(np.tile(clean, 2), hop_s=30.0) == dnsmos(clean[:144_160])  # one window
    assert dnsmos(clean[:0]) is None


def test_speech_that_begins_with_the_first_sample_is_found() -> None:
    for seed in range(3):
        pcm = voice(5.0, seed)
        found = SpeechSpans().of(speech_probabilities_of_cut(pcm), 5.0)
        assert sum(span.length_s for span in found) > 4.5
        assert len(speech_probabilities_of_cut(pcm)) == len(speech_probabilities(pcm))
    quiet = np.random.default_rng(0).normal(0, 0.01, 80_000).astype(np.float32)
    assert SpeechSpans().of(speech_probabilities_of_cut(quiet), 5.0) == []
    assert SpeechSpans().of(speech_probabilities_of_cut(media.music(5.0, 3, 16_000)[:, 0]), 5.0) == []
