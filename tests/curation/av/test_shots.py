from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode
from scenedetect.detector import FlashFilter

from curation.av.picture_motion import GREY_SIZE_PX
from curation.av.shots import (
    ContentScores,
    KoalaScores,
    adaptive_cuts,
    content_cuts,
    koala_cuts,
    ssim,
)
from tests.curation.av import media


def _cut_video(seed: int, lengths: list[int], step: int = 2, size: tuple[int, int] = (192, 108)) -> np.ndarray:
    shots = [media.pan(seed * 100 + k, length, step, *size) for k, length in enumerate(lengths)]
    return np.stack([frame for shot in shots for frame in shot])


def _oracle(detector: Any, frames: np.ndarray) -> list[int]:
    found = []
    for number, frame in enumerate(frames):
        found += detector.process_frame(FrameTimecode(number, fps=25.0), np.ascontiguousarray(frame[..., ::-1]))
    return [cut.frame_num for cut in found]


def _small(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(frame, GREY_SIZE_PX, interpolation=cv2.INTER_AREA) for frame in frames])


@pytest.mark.parametrize("seed", range(3))
def test_content_detector_is_pyscenedetects(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = _small(_cut_video(seed, rng.integers(3, 40, 8).tolist(), int(rng.integers(0, 9))))
    scores = ContentScores().add(frames)
    for threshold in (5.0, 27.0):
        for min_frames in (0, 5, 15):
            oracle = ContentDetector(threshold, min_frames)
            assert content_cuts(scores, threshold, min_frames) == _oracle(oracle, frames)
    assert adaptive_cuts(scores) == _oracle(AdaptiveDetector(), frames)
    assert adaptive_cuts(scores, 2.0, 5, 3, 8.0) == _oracle(AdaptiveDetector(2.0, 5, 3, 8.0), frames)


@given(st.lists(st.integers(0, 40), max_size=80), st.integers(0, 12))
def test_cuts_of_any_scores_are_pyscenedetects(values: list[int], min_frames: int) -> None:
    scores = np.array(values, float)
    oracle = FlashFilter(FlashFilter.Mode.MERGE, min_frames)
    found = [c for k, v in enumerate(values) for c in oracle.filter(FrameTimecode(k, fps=25.0), v >= 27)]
    assert content_cuts(scores, 27.0, min_frames) == [c.frame_num for c in found]


def test_scores_do_not_depend_on_the_pieces() -> None:
    frames = _small(_cut_video(1, [10, 12, 5]))
    whole = ContentScores().add(frames)
    pieces = ContentScores()
    np.testing.assert_array_equal(np.concatenate([pieces.add(frames[a : a + 7]) for a in range(0, 27, 7)]), whole)
    square = np.stack([cv2.resize(frame, (256, 256)) for frame in frames])
    one, many = KoalaScores().add(square), KoalaScores()
    np.testing.assert_array_equal(np.concatenate([many.add(square[a : a + 4]) for a in range(0, 27, 4)]), one)


def f1(found: list[int], truth: list[int], tolerance: int = 2) -> float:
    """Of cuts matched one to one within some frames (TRECVID's definition)."""
    left, hits = list(found), 0
    for cut in truth:
        near = next((k for k in left if abs(k - cut) <= tolerance), None)
        if near is not None:
            left.remove(near)
            hits += 1
    return 2 * hits / max(1, len(found) + len(truth))


def centers(cuts: list[int], scores: np.ndarray, max_gap: int = 8) -> list[int]:
    """One frame for each transition, of which `koala_cuts` may name several: the one with the lowest score."""
    groups: list[list[int]] = []
    for cut in cuts:
        if groups and cut - groups[-1][-1] <= max_gap:
            groups[-1].append(cut)
        else:
            groups.append([cut])
    return [min(group, key=lambda k: float(scores[k])) for group in groups]


@pytest.mark.parametrize("detector", ["content", "adaptive", "koala"])
def test_hard_cuts_are_found(detector: str) -> None:
    """Ground truth: 9 made videos with camera motion of 0 to 8 pixels a frame (of 192), dark and noisy ones among them.

    The adaptive detector compares a cut with the motion around it, and misses one in two at 8 pixels: 0 to 2 for it.
    """
    max_step = 2 if detector == "adaptive" else 8
    found_all, truth_all = [], []
    for seed in range(9):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(18, 45, 5).tolist()
        frames = _cut_video(seed, lengths, int(rng.integers(0, max_step + 1))).astype(np.float32)
        if seed % 3 == 1:
            frames = frames * 0.6
        if seed % 3 == 2:
            frames = frames + rng.normal(0, 4, frames.shape)
        pixels = frames.clip(0, 255).astype(np.uint8)
        if detector == "koala":
            scores = KoalaScores().add(np.stack([cv2.resize(frame, (256, 256)) for frame in pixels]))
            cuts = centers(koala_cuts(scores), scores)
        else:
            scores = ContentScores().add(_small(pixels))
            cuts = content_cuts(scores) if detector == "content" else adaptive_cuts(scores)
        found_all += [seed * 10_000 + cut for cut in cuts]
        truth_all += [seed * 10_000 + cut for cut in np.cumsum(lengths)[:-1].tolist()]
    assert f1(found_all, truth_all) >= 0.95


def test_ssim_of_equal_and_unequal() -> None:
    a = media.scene(1)[..., 0]
    assert ssim(a, a) == pytest.approx(1.0)
    assert ssim(a, media.scene(2)[..., 0]) < 0.4
    assert ssim(a, 255 - a) < 0
