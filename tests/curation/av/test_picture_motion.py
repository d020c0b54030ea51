from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.av.picture_motion import Borders, Stillness, borders, motion_of_vectors, stillness
from curation.av.picture_track import PictureTrack, TrackMaker
from tests.curation.av import media


def _track(frames: list[np.ndarray]) -> PictureTrack:
    maker = TrackMaker()
    small = np.stack([cv2.resize(frame, (96, 54), interpolation=cv2.INTER_AREA) for frame in frames])
    maker.add(small, np.arange(len(small)) / 25)
    return maker.track()


def _stillness(frames: list[np.ndarray]) -> Stillness | None:
    track = _track(frames)
    return stillness(track.steps, track.frames["level"])


def _borders(frames: list[np.ndarray]) -> Borders | None:
    return borders(*_track(frames).lit)


def test_stills_slides_and_motion() -> None:
    rng = np.random.default_rng(0)
    noisy = [(media.pan(1, 1)[0].astype(float) + rng.normal(0, 2, (240, 320, 3))).clip(0, 255) for _ in range(30)]
    still = _stillness([frame.astype(np.uint8) for frame in noisy])
    assert still is not None
    assert (still.still_share, still.jump_share, still.is_slideshow) == (1.0, 0.0, False)
    slides = _stillness([frame for seed in range(4) for frame in media.pan(seed, 20, 0)])
    assert slides is not None
    assert slides.is_slideshow
    assert slides.jump_share == pytest.approx(3 / 79)
    moving = _stillness(media.pan(1, 30, 3))
    assert moving is not None
    assert (moving.still_share, moving.is_slideshow) == (0.0, False)
    cuts = _stillness([frame for seed in range(4) for frame in media.pan(seed, 20, 3)])
    assert cuts is not None
    assert not cuts.is_slideshow
    assert _stillness(media.pan(1, 1)) is None


def test_black_frames() -> None:
    black = [np.zeros((240, 320, 3), np.uint8)] * 5
    found = _stillness(black + media.pan(0, 15))
    assert found is not None
    assert found.black_share == 0.25
    assert _borders(black) is None


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (30, 0), (0, 40)])
def test_bars(rows: int, columns: int) -> None:
    frames = []
    for frame in media.pan(7, 10):
        boxed = np.zeros_like(frame)
        boxed[rows : 240 - rows, columns : 320 - columns] = frame[rows : 240 - rows, columns : 320 - columns]
        frames.append(boxed)
    found = _borders(frames)
    assert found is not None
    assert found.top == pytest.approx(rows / 240, abs=0.03)
    assert found.bottom == pytest.approx(rows / 240, abs=0.03)
    assert found.left == pytest.approx(columns / 320, abs=0.02)
    assert found.right == pytest.approx(columns / 320, abs=0.02)


def test_motion_of_a_grid() -> None:
    grid = np.full((5, 16), 0.02, np.float32)
    grid[:, 3] = 0.0
    grid[0] = -1
    mean, least = motion_of_vectors(grid) or (0, 0)
    assert mean == pytest.approx(0.02 * 15 / 16)
    assert least == 0.0
    assert motion_of_vectors(grid[:1]) is None
