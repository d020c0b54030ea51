"""What is written in pictures, drawn by the test: read, with its language."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

pytest.importorskip("rapidocr")

from curation.signals.screen_text import ScreenText
from curation.text_reading import default_weights, text_reader
from tests.curation.signal_rows import drawing


def written(*lines: str, size: int = 30) -> np.ndarray:
    """Dark letters of a serifless face on a light ground."""
    picture = Image.new("RGB", (640, 360), (225, 230, 235))
    pen, face = ImageDraw.Draw(picture), ImageFont.load_default(size)
    for k, line in enumerate(lines):
        pen.text((30, 40 + 80 * k), line, (20, 30, 60), font=face)
    return np.array(picture)


ENGLISH = ("The next train to the city", "leaves from platform nine")
GERMAN = ("Der nächste Zug in die Stadt", "fährt heute nicht mehr ab")
FRENCH = ("Le prochain train pour la ville", "part dans une heure")


def test_lines_are_read_with_their_language() -> None:
    images = [written(*ENGLISH), written(*GERMAN), None, written(*FRENCH), np.full((90, 120, 3), 200, np.uint8)]
    found = ScreenText().compute_images(images).to_pydict()
    assert found["screen_text"][0] == " ".join(ENGLISH)
    assert found["screen_text"][3] == " ".join(FRENCH)
    said, truth = (str(each).split() for each in (found["screen_text"][1], " ".join(GERMAN)))
    assert (
        sum(a == b for a, b in zip(said, truth, strict=True)) >= len(truth) - 2
    )  # two have an umlaut, which it knows ill
    assert found["screen_language"] == ["en", "de", None, "fr", None]
    assert [found["screen_text"][k] for k in (2, 4)] == [None, None]
    assert all(0.9 < found["screen_text_confidence"][k] <= 1 for k in (0, 1, 3))


def test_a_number_has_no_language_and_a_drawing_no_text() -> None:
    found = ScreenText().compute_images([written("42"), drawing(3, 640, 480)]).to_pydict()
    assert (found["screen_text"][0], found["screen_language"][0]) == ("42", None)
    assert found["screen_language"][1] is None


def test_a_line_that_runs_upwards_is_turned() -> None:
    line = written("platform nine")[30:90, 20:260]
    upwards = np.rot90(line, -1)
    reader = text_reader(default_weights())
    (level,) = reader.lines(line, [(0.0, 0.0, 1.0, 1.0)])
    (turned,) = reader.lines(upwards, [(0.0, 0.0, 1.0, 1.0)])
    assert level.text == turned.text == "platform nine"
    assert reader.lines(line, []) == []
