from __future__ import annotations

import cv2
import numpy as np

from curation.av.cutting_up import SegmentOptions, cut_up
from curation.av.segments import Segmentation
from curation.av.stills import Stills
from curation.media.av_decode import AvDecoder
from curation.media.av_types import Frames
from tests.curation.av import media


def _level(jpeg: bytes | None) -> int | None:
    return None if jpeg is None else round(float(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1).mean()) / 10)


def test_the_one_nearest_to_the_middle_of_a_range() -> None:
    """Pictures of levels 0, 10, ... at seconds 0, 1, ...; the one of second 3 is damaged."""
    pixels = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None, None] * 10, (6, 32, 48, 3))
    stills = Stills()
    for part in (slice(0, 2), slice(2, 6)):
        stills.add(Frames(1, np.arange(6.0)[part], np.arange(6)[part] == 3, pixels[part]))
    assert [_level(stills.of(*span)) for span in ((0, 5.0), (0.5, 2.6), (0, 9), (2.5, 3.9), (1.0, 1.5))] == [
        2, 2, 4, None, 1,
    ]  # fmt: skip
    assert _level(stills.of(0, 5.0)) == 2  # asked again
    assert Stills().of(0, 9) is None


def test_a_segments_picture_comes_from_the_decoding_of_its_source() -> None:
    shots = [media.pan(80 + k, n, 0, 160, 120) for k, n in enumerate((60, 75))]
    body = media.write([frame for shot in shots for frame in shot], None, "mp4")
    with AvDecoder() as decoder:
        found = cut_up(decoder, body, "u", SegmentOptions(shots=Segmentation(min_s=1.0)))
    assert len(found) == 2
    for shot, each in zip(shots, found, strict=True):
        assert each.frame is not None
        picture = cv2.imdecode(np.frombuffer(each.frame, np.uint8), 1)[..., ::-1]
        assert np.abs(picture.astype(int) - shot[0].astype(int)).mean() < 8
