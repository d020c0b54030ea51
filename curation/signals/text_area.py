"""Text area: how much of a picture is writing."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from curation.boxes import BoxDetector, BoxSignal
from curation.text_detection import default_weights, text_detector


class TextArea(BoxSignal):
    """What a text detector finds in the picture: captions in the picture, logos, watermarks, screenshots.

    Columns: `text_area_share` (0-1: share of the picture inside the boxes, their overlap counted once);
    `num_text_boxes` (0 or more; about one for each line); `text_boxes` (left, top, right, bottom of each, as shares
    0-1 of width and height, top to bottom). Unit: as said. Model: PP-OCRv6 detection, small (Apache-2.0), of the
    package rapidocr, or `weights`; its digest is in the key. Source: DB, arXiv 1911.08947; T-MARS, arXiv 2307.03132
    (whose detector is FAST).
    """

    version: ClassVar[int] = 1
    number_name: ClassVar[str] = "num_text_boxes"
    share_name: ClassVar[str] = "text_area_share"
    boxes_name: ClassVar[str] = "text_boxes"

    def default_weights(self) -> Path:
        return default_weights()

    def detector(self) -> BoxDetector:
        return text_detector(self.file())
