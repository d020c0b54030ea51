"""Repair of texts: what goes, what stays, and how it is counted."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.signals.text_hygiene import repair, repair_kinds

ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"  # a flag, spelt out in tag characters


@pytest.mark.parametrize(
    ("text", "clean", "num_repairs"),
    [
        ("A dog.", "A dog.", 0),
        ("  A dog.\n", "A dog.", 0),
        ("", None, 0),
        (" \u3000\u2028", None, 0),
        ("\u200b", None, 1),
        ("\x07bell", "bell", 1),
        ("\x01\x02A dog\x03", "A dog", 3),
        ("A dog\x1b[31m!\x1b[0m", "A dog!", 9),
        ("\x1b]0;title\x07A dog", "A dog", 10),
        ("\u202eA dog", "A dog", 1),
        ("\u2066A\u2069 dog\u200f", "A dog", 3),
        ("\ufeffA dog", "A dog", 1),
        ("A dog\ufffd\ufffd", "A dog", 2),
        ("A\r\n\r\n\tdog", "A dog", 5),
        ("A  dog", "A dog", 1),
        ("A\u00a0dog", "A dog", 1),
        ("A dog\u2028\x0b\x0c", "A dog", 0),
        ("so\u00adft", "soft", 1),
        ("cafe\u0301", "caf\u00e9", 1),
        ("\x93quoted\x94", "quoted", 2),
        ("Lat\u200din", "Latin", 1),
        ("می\u200cخواهم", "می\u200cخواهم", 0),  # shapes the word
        ("اردک\u200c نر", "اردک نر", 1),
        ("ഒരു മയാല്\u200d", "ഒരു മയാല്\u200d", 0),  # a letter of its own after the virama
        ("👩\u200d🚀 flies", "👩\u200d🚀 flies", 0),
        (ENGLAND, ENGLAND, 0),
        ("dog\U000e0064\U000e006f", "dog", 2),
        ("❤\ufe0f", "❤\ufe0f", 0),
        ("\u200d\u200c\u200d", None, 3),
        ("می\u200c\u200cخواهم", "می\u200cخواهم", 1),
        ("\ufe0f\ufe0f \u3164", None, 3),  # variation selectors and a filler: nothing is shown
        ("\u2800\u2800", None, 2),
        ("\u2801\u2800", "\u2801\u2800", 0),
        ("a" + "\u0315\u0300" * 20, "à" + "\u0300" * 14 + "\u0315" * 15, 11),  # no more than 30 marks are put in order
    ],
)  # fmt: skip
def test_repair(text: str, clean: str | None, num_repairs: int) -> None:
    assert repair(text) == (clean, num_repairs)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("A dog.", []),
        ("  A dog.\n", []),
        ("می\u200cخواهم 👩\u200d🚀", []),
        (ENGLAND, []),
        ("\x07bell\x93", ["control"]),
        ("A dog\x1b[31m!", ["escape_sequence"]),
        ("\u202eA \u2066dog", ["bidi"]),
        ("\ufeffso\u00adft", ["no_width"]),
        ("dog\ufffd\uffff", ["no_character"]),
        ("dog\U000e0064", ["tag"]),
        ("Lat\u200din", ["joiner"]),
        ("cafe\u0301", ["composition"]),
        ("A\u00a0dog  b", ["white_space"]),
        ("\ufe0f \u3164", ["no_width"]),
        ("\u200d\u200d", ["joiner"]),
        ("\u200bcafe\u0301\tx\x01", ["composition", "control", "no_width", "white_space"]),
    ],
)
def test_repairs_are_recorded(text: str, kinds: list[str]) -> None:
    assert repair_kinds(text) == kinds


_TEXT = st.text(
    alphabet=st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("a é\u0301\u200b\u200c\u200d\x1b[m0\x07\ufffd\u202e \t\u2028👩🚀ക്म\u0951"),
    ),
    max_size=40,
)


@settings(max_examples=500, deadline=None)
@given(_TEXT)
def test_what_comes_out_is_clean_and_stays_so(text: str) -> None:
    clean, num_repairs = repair(text)
    assert num_repairs >= 0
    if clean is None:
        return
    assert clean == clean.strip() == unicodedata.normalize("NFC", clean)
    assert "  " not in clean
    assert not any(unicodedata.category(char) == "Cc" for char in clean)
    assert not set(clean) & set("\ufffd\ufeff\u200b\u202e\u2066\u2028")
    assert repair(clean) == (clean, 0)
    if num_repairs == 0:
        assert clean == text.strip()


def test_a_joiner_that_is_left_behind_by_its_mark() -> None:
    """The virama, which it followed, goes before the accent (UAX 15, canonical ordering)."""
    text = "\u0915\u0951\u094d\u200da"
    assert repair(text) == ("\u0915\u094d\u0951a", 1)
    assert repair(repair(text)[0] or "") == ("\u0915\u094d\u0951a", 0)


@settings(max_examples=300, deadline=None)
@given(_TEXT)
def test_what_is_recorded_is_what_was_repaired(text: str) -> None:
    clean, num_repairs = repair(text)
    assert (num_repairs > 0) == bool(repair_kinds(text))
    assert repair_kinds(clean or "") == []
