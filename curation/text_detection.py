"""Where text stands in a picture: a differentiable-binarization detector (DB, arXiv 1911.08947) and its boxes.

Shapes: Y and X pixels.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from curation.boxes import Box, mask_of
from curation.weights import onnx_session, packaged

LONG_SIDE_PX = 736
"""The longer side that the detector sees (RapidOCR's default size, there for the shorter side: 3 times the time)."""
STRIDE_PX = 32
MAX_SCALE = 2.0
"""Small pictures are enlarged so much and no more: their letters are few pixels high."""
PIXEL_THRESHOLD, BOX_THRESHOLD, UNCLIP = 0.3, 0.5, 1.6
"""A pixel is text; a region is (its mean); how far the shrunk region is grown again. RapidOCR 3.10, config.yaml."""
MIN_SIDE_PX = 3
EDGE_LEVELS, MIN_EDGE_SHARE = 32.0, 0.05
"""Letters have edges: fewer than this share of pixels with such a gradient (Sobel, 8 times the levels a pixel) is no
text (in lines of letters 0.15 and more). This project's: on flat colours, which it was not trained on, the detector
sees text everywhere. On small pictures of a few flat shapes (160 x 120 pixels) it still does."""
MAX_BOXES = 1000


def default_weights() -> Path:
    """PP-OCRv6 detection, small (PaddleOCR; Apache-2.0), as the package rapidocr carries it. Raises ValueError."""
    return packaged("rapidocr", "models/PP-OCRv6_det_small.onnx")


class TextDetector:
    """The detector of one weights file; boxes of the last pictures are kept, for signals that ask about the same."""

    def __init__(self, weights: Path) -> None:
        self._session = onnx_session(weights)
        self._input = self._session.get_inputs()[0].name
        self._known: dict[bytes, list[Box]] = {}

    def boxes(self, image: np.ndarray) -> list[Box]:
        """Upright boxes around the text in a (H, W, 3) uint8 RGB picture, top to bottom; empty where there is none."""
        key = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() + repr(image.shape).encode()
        if key not in self._known:
            if len(self._known) >= 256:
                self._known.clear()
            self._known[key] = self._detect(image)
        return self._known[key]

    def _detect(self, image: np.ndarray) -> list[Box]:
        scale = min(MAX_SCALE, LONG_SIDE_PX / max(image.shape[:2]))
        height, width = (max(STRIDE_PX, round(side * scale / STRIDE_PX) * STRIDE_PX) for side in image.shape[:2])
        shown = cv2.resize(np.ascontiguousarray(image[:, :, ::-1]), (width, height), interpolation=cv2.INTER_LINEAR)
        pixels = (shown.astype(np.float32) / 255 - 0.5) / 0.5  # blue first: PaddleOCR reads with OpenCV
        (found,) = self._session.run(None, {self._input: np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])})
        luminance = cv2.cvtColor(shown, cv2.COLOR_BGR2GRAY)
        across, down = (cv2.Sobel(luminance, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
        is_edge = np.hypot(across, down) >= EDGE_LEVELS
        boxes = boxes_of(found[0, 0])
        return [box for box in boxes if is_edge[mask_of([box], height, width)].mean() >= MIN_EDGE_SHARE]


def boxes_of(probability_YX: np.ndarray) -> list[Box]:
    """Boxes of a map of text probability: regions above the threshold, grown by the shrinking that DB trains with."""
    height, width = probability_YX.shape
    mask = cv2.dilate((probability_YX > PIXEL_THRESHOLD).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found: list[Box] = []
    for contour in contours[:MAX_BOXES]:
        x, y, w, h = cv2.boundingRect(contour)
        if min(w, h) < MIN_SIDE_PX:
            continue
        inside = np.zeros((h, w), np.uint8)
        cv2.fillPoly(inside, [contour - np.array([[x, y]])], 1)
        if float(probability_YX[y : y + h, x : x + w][inside > 0].mean()) < BOX_THRESHOLD:
            continue
        (_, _), (a, b), _ = cv2.minAreaRect(contour)
        grow = (a * b) * UNCLIP / max(2 * (a + b), 1.0)  # Vatti offset of a rectangle: area * ratio / perimeter
        left, top = max(0.0, x - grow), max(0.0, y - grow)
        right, bottom = min(float(width), x + w + grow), min(float(height), y + h + grow)
        found.append((left / width, top / height, right / width, bottom / height))
    return sorted(found, key=lambda box: (box[1], box[0]))


@lru_cache(maxsize=2)
def text_detector(weights: Path) -> TextDetector:
    """This process's detector."""
    return TextDetector(weights)


def without_text(image: np.ndarray, boxes: list[Box]) -> np.ndarray:
    """A copy in which every box has the mean colour of what surrounds it (a tenth of its longer side, 4 px or more).

    T-MARS (arXiv 2307.03132) masks the detected text; its released code does not say with what, and a flat black box
    would itself be seen.
    """
    height, width = image.shape[:2]
    mask = mask_of(boxes, height, width)
    masked = image.copy()
    for box in boxes:
        left, top, right, bottom = (int(v * side) for v, side in zip(box, (width, height, width, height), strict=True))
        rim = max(4, max(right - left, bottom - top) // 10)
        rows, columns = slice(max(0, top - rim), bottom + 1 + rim), slice(max(0, left - rim), right + 1 + rim)
        around = ~mask[rows, columns]
        colour = image[rows, columns][around].mean(axis=0) if around.any() else image.reshape(-1, 3).mean(axis=0)
        inside = slice(top, int(np.ceil(box[3] * height))), slice(left, int(np.ceil(box[2] * width)))
        masked[inside] = np.rint(colour).astype(np.uint8)
    return masked
