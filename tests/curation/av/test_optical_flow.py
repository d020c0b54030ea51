from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.av.optical_flow import flow_of_frames
from curation.av.segment_signal import DecodedSegment
from curation.media.av_types import Frames
from curation.signals.optical_flow import OpticalFlow
from tests.curation.av import media


def small(frames: list[np.ndarray]) -> np.ndarray:
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack([cv2.resize(each, (96, 54), interpolation=cv2.INTER_AREA) for each in grey])


@pytest.mark.parametrize("step", [2, 5, 10])
def test_the_flow_of_a_pan_is_the_cameras(step: int) -> None:
    grey = small(media.pan(3, 30, step, 384, 216))
    found = flow_of_frames(grey, np.arange(30) / 25, 5.0)
    assert found is not None
    assert found.shape == (6, 16)
    assert float(np.median(found)) == pytest.approx(step / 216 * 25, rel=0.25)


def test_a_thing_that_moves_before_a_fixed_camera_leaves_a_quiet_part() -> None:
    frames = [media.scene(1, 192, 108)[:, :192].copy() for _ in range(25)]
    for k, frame in enumerate(frames):
        cv2.circle(frame, (30 + 3 * k, 40), 16, (255, 255, 255), -1)
    times = np.arange(25) / 25
    picture = Frames(0, times, np.zeros(25, bool), small(frames))
    row = OpticalFlow(pairs_hz=10).of_segment(DecodedSegment(grey=picture))
    assert float(row["flow_mean"]) > 0.02  # type: ignore[arg-type]
    assert float(row["flow_least"]) < 0.01  # type: ignore[arg-type]
    still = Frames(0, times, np.zeros(25, bool), np.repeat(small(frames[:1]), 25, axis=0))
    assert float(OpticalFlow().of_segment(DecodedSegment(grey=still))["flow_mean"]) < 1e-3  # type: ignore[arg-type]
    one = Frames(0, times[:1], np.zeros(1, bool), still.pixels[:1])
    assert OpticalFlow().of_segment(DecodedSegment(grey=one))["flow_mean"] is None
