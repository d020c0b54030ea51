"""What moves and what does not: stills, slide shows, black frames, borders, camera motion; of small grey frames.

Of figures of frames (`curation.av.picture_track`), in levels of luma; found are shares of frames or of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

GREY_SIZE_PX = (96, 54)
"""Width and height of the frames that the figures are made from."""

STILL_LEVELS = 0.7
"""Mean absolute difference to the frame before, in grey levels, below which a frame is a repetition. A coder's noise on
a still picture is below 0.5; the slowest pan that can be seen is above 1."""
JUMP_LEVELS = 12.0
"""Above which it is another picture."""
BLACK_LEVEL = 24.0
"""Mean luma below which a frame is black; video black is 16."""
BORDER_LEVEL = 28
"""Luma that a border never exceeds: black, and the noise of coding."""
LIT_SHARE = 0.05
"""Of a row or column that must be brighter in one frame for it to be no border: a few bright pixels (noise, a mark in
the bar) do not end a bar."""


@dataclass(frozen=True)
class Stillness:
    """still_share: of frames that repeat the one before. jump_share: of frames that are another picture.
    is_slideshow: almost only stills, with jumps between them. black_share: of black frames."""

    still_share: float
    jump_share: float
    is_slideshow: bool
    black_share: float


def stillness(steps: Floats, levels: Floats) -> Stillness | None:
    """None for fewer than two frames. steps: mean absolute difference of each frame to the one before [n], the first is
    not looked at; levels: mean level of each [n]."""
    if len(steps) < 2:
        return None
    still, jump = float((steps[1:] < STILL_LEVELS).mean()), float((steps[1:] > JUMP_LEVELS).mean())
    black = float((levels < BLACK_LEVEL).mean())
    return Stillness(still, jump, bool(still + jump > 0.9 and still > 0.5 and jump > 0), black)


@dataclass(frozen=True)
class Borders:
    """Share of the frame's height (top, bottom) or width (left, right) that stays dark in all frames."""

    top: float
    bottom: float
    left: float
    right: float


def borders(lit_rows: Bits, lit_columns: Bits) -> Borders | None:
    """Letterbox and pillarbox bars; None where the frames are dark altogether (or there are none).

    lit_rows: bool [n, H], lit_columns: bool [n, W]: whether more than `LIT_SHARE` of it is brighter than a border."""
    rows, columns = np.asarray(lit_rows.any(axis=0)), np.asarray(lit_columns.any(axis=0))
    if not rows.any() or not columns.any():
        return None
    height, width = len(rows), len(columns)
    return Borders(
        top=float(np.argmax(rows)) / height,
        bottom=float(np.argmax(rows[::-1])) / height,
        left=float(np.argmax(columns)) / width,
        right=float(np.argmax(columns[::-1])) / width,
    )


def motion_of_vectors(grid: npt.NDArray[np.float32]) -> tuple[float, float] | None:
    """(mean, least cell) of the codec's motion, in frame heights a frame, over frames that have vectors.

    grid: float32 [n, 16] of `curation.media.av_types.Motion`. The least cell is the mean over time of the quietest of
    the 16 parts of the picture: 0 for a moving thing before a fixed camera. None where no frame has vectors (a codec
    that does not export them: VP9, AV1, HEVC). Vectors of frames with references further away are longer, so compare
    within one codec. Source: the idea is NeMo Curator's motion filter; its units are not published.
    """
    known = grid[grid[:, 0] >= 0]
    if len(known) == 0:
        return None
    cells = known.mean(axis=0, dtype=np.float64)
    return float(cells.mean()), float(cells.min())
