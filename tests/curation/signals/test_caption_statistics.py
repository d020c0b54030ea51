"""Counts of words, scripts and repetitions."""

from __future__ import annotations

import pytest

from curation.scripts import script_of
from curation.signals.caption_statistics import CaptionStatistics, num_words


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("A dog.", 2),
        ("one", 1),
        ("Собака на траве", 3),
        ("新しいカメラを買った", 5),
        ("ฉันรักแมว", 3),
        ("東京 Tower", 2),
        ("123 !", 2),
    ],
)
def test_num_words(text: str, number: int) -> None:
    assert num_words(text) == number


@pytest.mark.parametrize(
    ("char", "script"),
    [
        ("a", "Latin"), ("é", "Latin"), ("ａ", "Latin"), ("ж", "Cyrillic"), ("犬", "Han"), ("々", "Han"),
        ("か", "Hiragana"), ("カ", "Katakana"), ("ｶ", "Katakana"), ("한", "Hangul"), ("अ", "Devanagari"),
        ("ि", "Devanagari"), ("ß", "Latin"), ("\u0301", "Inherited"), ("ᑎ", "Canadian_Aboriginal"),
        ("ك", "Arabic"), ("ა", "Georgian"), ("1", None), ("!", None), ("🚀", None),
    ],
)  # fmt: skip
def test_script_of(char: str, script: str | None) -> None:
    assert script_of(char) == script


def test_columns() -> None:
    columns = CaptionStatistics().of_texts(["ab 12", "go go go go", "犬犬 a", "!!", None])
    assert columns["num_characters"] == [5, 11, 4, 2, None]
    assert columns["share_letters"] == [0.4, 8 / 11, 0.75, 0.0, None]
    assert columns["share_digits"] == [0.4, 0.0, 0.0, 0.0, None]
    assert columns["token_repetition"] == [0.0, 0.75, 0.0, 0.0, None]
    assert columns["script"] == ["Latin", "Latin", "Han", None, None]
