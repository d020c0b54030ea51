"""Shot boundaries: per-frame scores from small frames, and cuts from the scores.

Scores are kept apart from cuts: they cost a decoding, a threshold costs nothing. `ContentScores` and the two detectors
on them are PySceneDetect's (0.7), here on frames of a fixed small size and on arrays, and checked against that library;
`koala_scores` is the published detector of Koala-36M (two features and a linear classifier).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

KOALA_SIZE_PX = (256, 256)
_KOALA_WEIGHTS = (4.61480465, 3.75211168, -5.485968377)  # Koala-36M, VideoTransitionAnalyzer.py: h, e, bias
_KOALA_HISTORY = 8
_SSIM_WINDOW = 7
_SSIM_C1, _SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # Wang et al. 2004


class FrameScores(Protocol):
    """Scores of frames that come piece by piece; one that looks ahead tells some of them later."""

    def add(self, frames: Pixels, /) -> Floats:
        """The next scores. frames: RGB, uint8 [n, H, W, 3]."""

    def finish(self) -> Floats:
        """The scores that are still missing after the last frame."""


class _AtOnce:
    def finish(self) -> Floats:
        return np.zeros(0)


class ContentScores(_AtOnce):
    """For each frame its distance to the one before: mean absolute difference of hue, saturation and value (0-255),
    averaged. The first frame has 0. Takes frames piece by piece: RGB, uint8 [n, H, W, 3], of 96 x 54 pixels in the
    stage `segment` (PySceneDetect shrinks to about 256 wide, video2dataset to 64; scores differ by a few per cent)."""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.uint8] | None = None

    def add(self, frames: Pixels) -> Floats:
        """Scores of these frames; shape [n]."""
        import cv2  # at the first call, as below: recipes are read without it

        num, height, width, _ = frames.shape
        flat = cv2.cvtColor(frames.reshape(num * height, width, 3), cv2.COLOR_RGB2HSV)
        hsv = np.asarray(flat, np.uint8).reshape(num, -1)
        before = hsv[:1] if self._last is None else self._last
        self._last = hsv[-1:].copy()
        differences = np.asarray(cv2.absdiff(np.concatenate([before, hsv[:-1]]), hsv))
        return np.asarray(differences.sum(axis=1, dtype=np.int64) / differences.shape[1])


def content_cuts(scores: Floats, threshold: float = 27.0, min_frames: int = 15) -> list[int]:
    """Frames at which a new shot begins: those whose score is at least `threshold` (PySceneDetect's ContentDetector).

    min_frames: shots are not shorter than this: cuts that follow each other faster become one, at the last of them
    (its filter mode `merge`).
    """
    above = scores >= threshold
    if min_frames <= 0:
        return [int(k) for k in np.flatnonzero(above)]
    cuts: list[int] = []
    last_above, merge_start = 0, -1
    for k, is_above in enumerate(above.tolist()):
        is_long = k - last_above >= min_frames
        if is_above:
            last_above = k
        if merge_start >= 0:
            if is_long and not is_above and last_above - merge_start >= min_frames:
                merge_start = -1
                cuts.append(last_above)
        elif is_above and is_long:
            cuts.append(k)
        elif is_above and cuts:
            merge_start = k
    return cuts


def adaptive_cuts(
    scores: Floats, ratio: float = 3.0, min_frames: int = 15, window: int = 2, min_score: float = 15.0
) -> list[int]:
    """Frames whose score is `ratio` times the mean of the `window` frames before and after, and at least `min_score`
    (PySceneDetect's AdaptiveDetector): a camera that moves fast raises all of them."""
    cuts, last = [], 0
    for k in range(window, len(scores) - window):
        around = (scores[k - window : k].sum() + scores[k + 1 : k + 1 + window].sum()) / (2 * window)
        if around >= 1e-5:
            found = min(scores[k] / around, 255.0)
        else:
            found = 255.0 if scores[k] >= min_score else 0.0
        if found >= ratio and scores[k] >= min_score and k - last >= min_frames:
            cuts.append(k)
            last = k
    return cuts


class KoalaScores(_AtOnce):
    """For each frame its likeness to the one before (below 0: another shot), by Koala-36M's linear classifier on the
    correlation of their colour histograms and the similarity (SSIM) of their structure. RGB frames of 256 x 256."""

    def __init__(self) -> None:
        self._last: tuple[Floats, Pixels] | None = None

    def add(self, frames: Pixels) -> Floats:
        """Scores of these frames; the very first has the score of equal frames."""
        scores = []
        for frame in frames:
            now = _histogram(frame), _structure(frame)
            before = self._last or now
            self._last = now
            correlation = _correlation(before[0], now[0])
            weight_h, weight_e, bias = _KOALA_WEIGHTS
            scores.append(weight_h * correlation + weight_e * ssim(before[1], now[1]) + bias)
        return np.array(scores)


def _histogram(frame: Pixels) -> Floats:
    """254 bins over 1-255 for each channel, one after another: float64 [762]."""
    return np.concatenate([np.bincount(frame[..., c].ravel(), minlength=256)[1:255] for c in range(3)]).astype(float)


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale > 0 else 1.0


def _structure(frame: Pixels) -> Pixels:
    import cv2

    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    edges = cv2.Canny(grey, 100, 200)
    return np.asarray(cv2.resize(np.maximum(grey, edges), (128, 128), interpolation=cv2.INTER_AREA), np.uint8)


def ssim(a: Pixels, b: Pixels) -> float:
    """Structural similarity of two grey pictures (-1 to 1), mean over 7 x 7 windows (Wang et al. 2004)."""
    import cv2

    x, y = a.astype(np.float64), b.astype(np.float64)

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.blur(values, (_SSIM_WINDOW, _SSIM_WINDOW)), np.float64)

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    over = (2 * mean_x * mean_y + _SSIM_C1) * (2 * covariance + _SSIM_C2)
    under = (mean_x**2 + mean_y**2 + _SSIM_C1) * (var_x + var_y + _SSIM_C2)
    inside = _SSIM_WINDOW // 2
    return float((over / under)[inside:-inside, inside:-inside].mean())


def koala_cuts(scores: Floats) -> list[int]:
    """Frames at which a new shot begins: a score below 0, or one that falls out of its own recent past (the mean of
    three below 0.75 and below mu - 3 max(0.2, sigma) of the eight before, their extremes left out)."""
    smooth = np.convolve(np.pad(scores, 1, mode="edge"), np.ones(3) / 3, "valid") if len(scores) else scores
    cuts = []
    for k, score in enumerate(scores):
        is_cut = score < 0
        if not is_cut and k >= _KOALA_HISTORY and smooth[k] < 0.75:
            past = np.sort(smooth[k - _KOALA_HISTORY : k])[1:-1]
            is_cut = smooth[k] < past.mean() - 3 * max(0.2, float(past.std()))
        if is_cut and k > 0:
            cuts.append(k)
    return cuts
