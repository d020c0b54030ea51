"""Stitching by a model's features, on a made film: two scenes in turn, then a third."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from curation.av.cutting_up import SegmentOptions, cut_up
from curation.av.frame_features import features_of
from curation.av.segments import Segmentation, Stitching
from curation.media.av_decode import AvDecoder
from tests.curation.av import media


class Colours:
    """A scorer whose vectors are the mean colours of a picture's quarters, from grey: real, and known beforehand."""

    embed_dim = 12

    def __init__(self, model: str, **_fields: object) -> None:
        if model != "colours":
            raise ValueError(f"there is no model {model!r}")
        self.weights_digest = "c" * 64

    def encode_images(self, images: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        rows = []
        for image in images:
            assert image is not None
            height, width = image.shape[0] // 2, image.shape[1] // 2
            cells = [image[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
            vector = np.concatenate([cell.mean(axis=(0, 1)) for cell in cells]) - 128
            rows.append(vector / np.linalg.norm(vector))
        return np.array(rows, np.float32).reshape(-1, 12), np.ones(len(rows), bool)

    def encode_texts(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError(texts)


STITCHING = Stitching(model="colours", scorer=f"{__name__}.Colours", min_within=0.0, max_between=0.4)


@pytest.fixture(scope="module")
def film() -> bytes:
    """A, B, A, B, C of 2 s each."""
    scenes = [media.scene(seed, 160, 120)[:, :160] for seed in (1, 7, 1, 7)]
    frames = [np.ascontiguousarray(np.roll(scene, k // 8, axis=1)) for scene in scenes for k in range(50)]
    frames += media.pan(3, 50, 0, 160, 120)
    return media.write(frames, None, "mp4", options={"g": "250"})


def _spans(decoder: AvDecoder, film: bytes, **settings: object) -> list[tuple[float, float]]:
    shots = Segmentation.model_validate({"min_s": 1.0, "min_shot_frames": 3, **settings})
    found = cut_up(decoder, film, "u", SegmentOptions(shots=shots))
    return [(round(each.span.start_s, 1), round(each.span.end_s, 1)) for each in found if each.span is not None]


def test_alternating_scenes_stay_apart_and_pieces_of_one_scene_are_joined(decoder: AvDecoder, film: bytes) -> None:
    plain = [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 8.0), (8.0, 10.0)]
    assert _spans(decoder, film, min_shot_frames=10) == plain
    assert _spans(decoder, film, min_shot_frames=10, stitching=STITCHING) == plain
    # forced cuts every second fall within a scene, and are undone: only the scenes' own stay
    forced = {"min_shot_frames": 10, "split_above_s": 1.5, "split_every_s": 1.0}
    assert len(_spans(decoder, film, **forced)) == 10
    assert _spans(decoder, film, **forced, stitching=STITCHING) == plain
    # of what comes again, the first is kept
    once = STITCHING.changed(min_to_earlier=0.3)
    assert _spans(decoder, film, min_shot_frames=10, stitching=once) == [plain[0], plain[1], plain[4]]


def test_features_are_those_of_the_frames_that_are_shown(decoder: AvDecoder, film: bytes) -> None:
    scorer = Colours("colours")
    at = features_of(decoder, film, scorer)
    found = at([4.5, 0.5, 2.5, 0.51])  # in any order; two within one frame
    assert found.shape == (4, 12)
    assert np.linalg.norm(found[0] - found[1]) < 0.1  # scene A both times
    assert np.linalg.norm(found[1] - found[2]) > 0.4
    np.testing.assert_array_equal(found[1], found[3])
    assert np.isnan(features_of(decoder, b"nothing", scorer)([0.5])).all()


def test_a_model_is_part_of_the_key_and_missing_ones_are_told() -> None:
    assert STITCHING.key() == STITCHING.changed(model="colours").key() != Stitching().key()
    with pytest.raises(ValueError, match="needs the field `model`"):
        Stitching().loaded()
    with pytest.raises(ValueError, match="there is no model 'other'"):
        STITCHING.changed(model="other").loaded()
