from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.av.correspondence import Correspondence, correspondence
from tests.curation.av import media


def strikes(
    seed: int, offset_s: float, fps: float = 25.0, seconds: float = 8.0, rate: int = 16_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball that jumps to another place at random times, and a knock `offset_s` later, in noise, the camera panning.

    (grey frames [n, 54, 96], times [n], pcm [n])."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * fps)) / fps
    hits, at = [], 0.4
    while at < seconds - 0.3:
        hits.append(at)
        at += float(rng.uniform(0.25, 0.9))
    frames, place, done = [], rng.integers(20, 140, 2), 0
    background = media.pan(seed, len(times), 1, 160, 90)
    for number, time in enumerate(times):
        while done < len(hits) and hits[done] <= time:
            place, done = rng.integers(20, 70, 2) * [2, 1], done + 1
        frame = background[number].copy()
        cv2.circle(frame, (int(place[0]), int(place[1])), 14, (255, 255, 255), -1)
        frames.append(cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (96, 54), interpolation=cv2.INTER_AREA))
    pcm = rng.normal(0, 0.01, round(seconds * rate))
    knock = np.exp(-np.arange(1600) / 200) * np.sin(2 * np.pi * rng.uniform(300, 2500) * np.arange(1600) / rate)
    for hit in hits:
        start = round((hit + offset_s) * rate)
        if 0 <= start < len(pcm) - 1600:
            pcm[start : start + 1600] += 0.4 * knock
    return np.stack(frames), times, pcm.astype(np.float32)


def steps_of(grey: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each frame to the one before."""
    return np.concatenate([[0.0], np.abs(np.diff(grey.astype(int), axis=0)).mean(axis=(1, 2))])


def _found(seed: int, offset_s: float, **more: float) -> Correspondence:
    grey, times, pcm = strikes(seed, offset_s, **more)
    found = correspondence(steps_of(grey), times, pcm, 16_000)
    assert found is not None
    return found


def test_offsets_are_recovered_within_40_ms_on_95_percent() -> None:
    rng = np.random.default_rng(0)
    errors, confidences = [], []
    for seed in range(40):
        offset = float(rng.uniform(-0.6, 0.6))
        found = _found(seed, offset, fps=float(rng.choice([15, 25, 30])))
        errors.append(abs(found.offset_s - offset))
        confidences.append(found.confidence)
    assert np.mean(np.array(errors) <= 0.04) >= 0.95
    assert np.median(confidences) > 6


def test_sound_of_another_clip_has_little_confidence() -> None:
    own = [_found(seed, 0.0).confidence for seed in range(8)]
    other = []
    for seed in range(8):
        grey, times, _ = strikes(seed, 0.0)
        _, _, pcm = strikes(seed + 100, 0.0)
        found = correspondence(steps_of(grey), times, pcm, 16_000)
        assert found is not None
        other.append(found.confidence)
    assert min(own) > max(other)


def test_start_of_the_audio_counts() -> None:
    grey, times, pcm = strikes(3, 0.2)
    late = correspondence(steps_of(grey), times, pcm[8_000:], 16_000, audio_start_s=0.5)
    assert late is not None
    assert late.offset_s == pytest.approx(0.2, abs=0.04)


def test_nothing_to_say() -> None:
    grey, times, pcm = strikes(1, 0.0)
    assert correspondence(np.zeros(len(grey)), times, pcm, 16_000) is None
    assert correspondence(steps_of(grey), times, np.zeros_like(pcm), 16_000) is None
    assert correspondence(steps_of(grey[:20]), times[:20], pcm, 16_000) is None
    assert correspondence(steps_of(grey), times, pcm[:100], 16_000) is None
