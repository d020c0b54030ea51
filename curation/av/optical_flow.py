"""Optical flow between neighbouring small frames, for codecs whose motion vectors cannot be had."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
GRID = 4
"""Cells of the picture on each side, as those of the codec's vectors."""


def flow_of_frames(grey: Grey, times_s: npt.NDArray[np.float64], pairs_hz: float) -> npt.NDArray[np.float32] | None:
    """Mean length of the flow by cell of a 4 x 4 grid, in frame heights a second: float32 [pairs, 16].

    Of `pairs_hz` pairs of neighbouring frames a second, evenly spread; None for fewer than two frames. grey: uint8
    [n, H, W]; times_s: [n], ascending. Dense inverse search (Kroeger et al. 2016, arXiv 1603.03590) by OpenCV.
    """
    if len(grey) < 2:
        return None
    import cv2  # at the first call: recipes are read without it

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)  # the frames are small already
    length_s = float(times_s[-1] - times_s[0])
    num = int(np.clip(np.ceil(length_s * pairs_hz), 1, len(grey) - 1))
    firsts = np.unique(((np.arange(num) + 0.5) * (len(grey) - 1) / num).astype(int))
    height, width = grey.shape[1:]
    rows, columns = np.linspace(0, height, GRID + 1).astype(int), np.linspace(0, width, GRID + 1).astype(int)
    found = np.empty((len(firsts), GRID * GRID), np.float32)
    for k, first in enumerate(firsts):
        begin = np.zeros((height, width, 2), np.float32)
        flow = np.asarray(search.calc(grey[first], grey[first + 1], begin))
        speed = np.hypot(flow[..., 0], flow[..., 1]) / height / max(float(times_s[first + 1] - times_s[first]), 1e-3)
        sums = np.add.reduceat(np.add.reduceat(speed, rows[:-1], axis=0), columns[:-1], axis=1)
        found[k] = (sums / np.outer(np.diff(rows), np.diff(columns))).ravel()
    return found
