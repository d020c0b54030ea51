"""What is written in a box of a picture: a line recogniser with CTC (PP-OCR, arXiv 2206.03001), greedily decoded.

Shapes: Y and X pixels, T steps, C characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from curation.boxes import Box
from curation.weights import onnx_session, packaged

HEIGHT_PX, MIN_WIDTH_PX, MAX_WIDTH_PX = 48, 320, 1600
"""Of a line as the recogniser sees it; narrower ones are padded (RapidOCR 3.10, config.yaml)."""
UPRIGHT = 1.5
"""A box so many times as high as wide is a line that runs upwards or downwards: it is turned."""
MIN_CONFIDENCE = 0.5
"""Mean probability of a line's characters, below which nothing was read (RapidOCR's `text_score`)."""
MAX_LINES = 50


@dataclass(frozen=True)
class Line:
    """text: not empty. confidence: mean probability of its characters, 0.5 to 1."""

    text: str
    confidence: float


def default_weights() -> Path:
    """PP-OCRv6 recognition, small (PaddleOCR; Apache-2.0), as the package rapidocr carries it: Latin, Greek, Chinese
    and Japanese letters. Raises ValueError."""
    return packaged("rapidocr", "models/PP-OCRv6_rec_small.onnx")


class TextReader:
    """The recogniser of one weights file, which holds its characters."""

    def __init__(self, weights: Path) -> None:
        self._session = onnx_session(weights)
        self._input = self._session.get_inputs()[0].name
        stored = self._session.get_modelmeta().custom_metadata_map.get("character")
        if not stored:
            raise ValueError(f"{weights}: no recogniser of PP-OCR: it does not hold its characters")
        self._characters = ["", *stored.split("\n"), " "]  # the first one: CTC's blank

    def lines(self, image: np.ndarray, boxes: list[Box]) -> list[Line]:
        """What is written in the boxes (shares 0-1) of a (H, W, 3) uint8 RGB picture, in their order; at most 50."""
        height, width = image.shape[:2]
        found = []
        for left, top, right, bottom in boxes[:MAX_LINES]:
            rows = slice(int(top * height), max(int(top * height) + 1, round(bottom * height)))
            columns = slice(int(left * width), max(int(left * width) + 1, round(right * width)))
            line = self._line(image[rows, columns])
            if line is not None:
                found.append(line)
        return found

    def _line(self, crop: np.ndarray) -> Line | None:
        if crop.shape[0] >= UPRIGHT * crop.shape[1]:
            crop = np.rot90(crop)
        width = min(MAX_WIDTH_PX, max(1, round(HEIGHT_PX * crop.shape[1] / crop.shape[0])))
        shown = cv2.resize(np.ascontiguousarray(crop[:, :, ::-1]), (width, HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
        pixels = np.zeros((1, 3, HEIGHT_PX, max(width, MIN_WIDTH_PX)), np.float32)  # blue first, as the detector
        pixels[0, :, :, :width] = ((shown.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)
        (found,) = self._session.run(None, {self._input: pixels})
        return self._decoded(found[0])

    def _decoded(self, probability_TC: np.ndarray) -> Line | None:
        """The most probable character of each step, runs of one as one, blanks left out (Graves et al. 2006)."""
        best_T = probability_TC.argmax(axis=1)
        is_new_T = np.append(True, best_T[1:] != best_T[:-1]) & (best_T > 0)
        text = "".join(self._characters[k] for k in best_T[is_new_T]).strip()
        if not text:
            return None
        confidence = float(probability_TC[is_new_T, best_T[is_new_T]].mean())
        return Line(text, confidence) if confidence >= MIN_CONFIDENCE else None


@lru_cache(maxsize=2)
def text_reader(weights: Path) -> TextReader:
    """This process's reader."""
    return TextReader(weights)
