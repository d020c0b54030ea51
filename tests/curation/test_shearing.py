"""Shearing: never longer than asked, always a beginning, as long as it can be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.shearing import Tokenizer, counter, sheared

WORDS = st.sampled_from(["a", "dog,", "photosynthesis", "犬が走る", "ครู", "naïve", "👩‍🚀", "don't", "...", "the"])
TEXTS = st.one_of(st.lists(WORDS, max_size=8).map(" ".join), st.text(max_size=30))


@pytest.mark.family("F05")
@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(0, 9), st.sampled_from(["words", "clip"]))
def test_what_is_left_is_a_beginning_of_at_most_so_many_tokens(text: str, most: int, tokenizer: Tokenizer) -> None:
    count = counter(tokenizer)
    found = sheared(text, most, tokenizer)
    assert count(found) <= most
    assert found == text or text.strip().startswith(found)
    assert found == text or count(text) > most


@pytest.mark.parametrize(
    ("text", "most", "tokenizer", "left"),
    [
        ("a red  bus on a street", 3, "words", "a red  bus"),
        ("a red bus", 3, "words", "a red bus"),
        ("a red bus", 0, "words", ""),
        ("犬が走る", 2, "words", "犬が"),
        ("dog 犬が", 2, "words", "dog 犬"),
        ("a red bus on a street", 4, "clip", "a red bus on"),
        ("a photosynthesizer", 2, "clip", "a"),
    ],
)
def test_it_ends_with_a_word(text: str, most: int, tokenizer: Tokenizer, left: str) -> None:
    assert sheared(text, most, tokenizer) == left


def test_a_first_word_that_is_too_long_is_cut_itself() -> None:
    found = sheared("antidisestablishmentarianism", 2, "clip")
    assert found
    assert "antidisestablishmentarianism".startswith(found)
