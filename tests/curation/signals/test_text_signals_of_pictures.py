"""Text in pictures: boxes, areas, and T-MARS end to end."""

from __future__ import annotations

import importlib.util

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydantic import ValidationError

from curation.boxes import mask_of
from curation.canary import canary_of, difference
from curation.signals.masked_clip_score import MaskedClipScore
from curation.signals.masked_image_embedding import MaskedImageEmbedding
from curation.signals.text_area import TextArea
from curation.signals.text_embedding import TextEmbedding
from curation.text_detection import boxes_of, text_detector, without_text
from tests.curation.signal_rows import TinyScorer, drawing

SCORER = f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"
with_detector = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None,
    reason="needs the extra `signals`",
)


def written(text: str = "A BIG SALE TODAY", size: tuple[int, int] = (480, 360)) -> np.ndarray:
    image = Image.new("RGB", size, (120, 160, 200))
    ImageDraw.Draw(image).text((30, 150), text, fill=(255, 255, 255), font=ImageFont.load_default(40))
    return np.asarray(image)


def test_boxes_of_a_probability_map() -> None:
    """Two bars: the sure one comes back grown, the unsure one and the speck do not."""
    probability = np.zeros((64, 128), np.float32)
    probability[20:30, 20:100] = 0.9
    probability[45:55, 20:100] = 0.35
    probability[5:7, 5:7] = 1.0
    (box,) = boxes_of(probability)
    left, top, right, bottom = (value * side for value, side in zip(box, (128, 64, 128, 64), strict=True))
    grow = 10 * 80 / (2 * 90) * 1.6
    assert (left, top, right, bottom) == pytest.approx((20 - grow, 20 - grow, 100 + grow, 30 + grow), abs=1.5)
    assert boxes_of(np.zeros((32, 32), np.float32)) == []
    assert boxes_of(np.ones((32, 32), np.float32)) == [(0.0, 0.0, 1.0, 1.0)]


def test_masks_count_overlap_once_and_stay_inside() -> None:
    mask = mask_of([(0.0, 0.0, 0.5, 1.0), (0.25, 0.0, 0.75, 1.0)], 10, 20)
    assert (mask.shape, mask.mean()) == ((10, 20), 0.75)
    assert not mask_of([], 3, 4).any()
    assert mask_of([(0, 0, 1, 1)], 3, 4).all()


def test_covered_text_has_the_colour_around_it() -> None:
    image = np.full((100, 200, 3), (10, 200, 30), np.uint8)
    image[40:60, 50:150] = 255
    covered = without_text(image, [(0.25, 0.4, 0.75, 0.6)])
    assert (covered == (10, 200, 30)).all()
    assert (image[50, 100] == 255).all(), "the picture itself is left alone"
    assert np.array_equal(without_text(image, []), image)
    assert without_text(image, [(0.0, 0.0, 1.0, 1.0)]).std(axis=(0, 1)).max() == 0


@with_detector
def test_text_is_found_where_it_stands() -> None:
    flat = np.full((50, 60, 3), 128, np.uint8)
    table = TextArea().compute_images([written(), drawing(3, 640, 480), None, flat, written("")])
    text, shapes, missing, blank, unwritten = table.to_pylist()
    assert unwritten == blank, "the detector sees text in flat colours, where there are no letters"
    assert 0.03 < text["text_area_share"] < 0.3
    assert text["num_text_boxes"] == len(text["text_boxes"]) >= 1
    left, top, right, bottom = text["text_boxes"][0]
    assert left < 0.12
    assert right > 0.7
    assert 0.3 < top < (150 + 20) / 360 < bottom < 0.7
    assert shapes["text_area_share"] < 0.05
    assert set(missing.values()) == {None}
    assert (blank["text_area_share"], blank["num_text_boxes"], blank["text_boxes"]) == (0.0, 0, [])


@with_detector
def test_the_canary_of_the_detector_sees_fewer_boxes() -> None:
    table = canary_of(TextArea())
    assert table is not None
    assert difference(table, table) is None
    more = table.set_column(1, "num_text_boxes", pa.array([3] * table.num_rows, pa.int32()))
    assert "num_text_boxes" in (difference(table, more) or "")


@with_detector
def test_t_mars_end_to_end() -> None:
    """The embedding of the masked picture is that of the same picture without text, and the score follows it."""
    image, plain = written(), written("")
    masked = MaskedImageEmbedding(model="m", scorer=SCORER)
    table = masked.compute_images([image, plain, None])
    scorer = TinyScorer("m")
    boxes = text_detector(masked.file()).boxes(image)
    covered = without_text(image, boxes)
    assert np.abs(covered.astype(int) - plain).mean() < 0.5
    assert np.abs(image.astype(int) - plain).mean() > 1
    wanted = scorer.encode_images([covered, plain, None])[0]
    texts = TextEmbedding(model="m", scorer=SCORER).compute(pa.table({"text_clean": ["a sale", "blue", "x"]}))
    rows = pa.table({"clip_masked_image_embedding": table.column(0), "clip_text_embedding": texts.column(0)})
    found = MaskedClipScore().compute(rows)
    assert found.column_names == ["clip_score_text_masked"]
    scores = (wanted * scorer.encode_texts(["a sale", "blue", "x"])[0]).sum(axis=1)
    assert found.column(0).to_pylist() == [pytest.approx(scores[0], abs=3e-3), pytest.approx(scores[1], abs=3e-3), None]


def test_what_is_missing_is_said_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rapidocr" else real("json"))
    with pytest.raises(ValidationError, match=r"package 'rapidocr', which is not installed.*tamis\[signals\]"):
        TextArea()
    with pytest.raises(ValidationError, match=r"there is no file /no/such"):
        TextArea(weights="/no/such.onnx")  # type: ignore[arg-type]
