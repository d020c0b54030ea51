"""Shingles against the definition in plain Python, character by character."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.shingles import UNSPACED, normal_form, shingle_sets

TUX = Path(__file__).parent / "data" / "tux_captions.tsv"
VANISHING = re.compile("[\xad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")


def stands_alone(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in UNSPACED)


def dull_words(text: str) -> list[str]:
    """The definition in curation/shingles.py."""
    folded = unicodedata.normalize("NFKC", "".join(map(dull_lower, unicodedata.normalize("NFKC", text))))
    words: list[str] = []
    open_word = False
    for char in VANISHING.sub("", unicodedata.normalize("NFKC", folded)):
        kind = unicodedata.category(char)[0]
        if kind == "M" and stands_alone(char):
            words[-1:] = [words[-1] + char] if words else [char]
        elif kind in "LN" and stands_alone(char):
            words.append(char)
            open_word = False
        elif kind in "LNM":
            words[-1:] = [words[-1] + char] if open_word else [*words[-1:], char]
            open_word = True
        else:
            open_word = False
    return words


def dull_lower(char: str) -> str:
    lower = char.lower()
    return lower if len(lower) == 1 else "i" if char == "\u0130" else char


def dull_shingles(words: list[str], size: int = 2, characters: int = 3) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    stretch: list[str] = []
    for word in [*words, None]:
        if stretch and (word is None or stands_alone(word[0]) != stands_alone(stretch[0][0])):
            window = characters if stands_alone(stretch[0][0]) else size
            found |= {tuple(stretch[k : k + window]) for k in range(max(1, len(stretch) - window + 1))}
            stretch = []
        if word is not None:
            stretch.append(word)
    return found


def check(texts: list[str | None]) -> None:
    normal = normal_form(pa.array(texts, pa.string()))
    words = [None if text is None else dull_words(text) for text in texts]
    assert normal.to_pylist() == [" ".join(each) if each else None for each in words]
    sets = shingle_sets(normal)
    assert np.diff(sets.offsets).tolist() == [len(dull_shingles(each or [])) for each in words]
    meaning: dict[int, tuple[str, ...]] = {}
    for row, each in enumerate(words):
        hashes = sets.hashes[sets.offsets[row] : sets.offsets[row + 1]]
        assert np.all(hashes[1:] > hashes[:-1])
        known = {meaning[value] for value in hashes.tolist() if value in meaning}
        assert known <= dull_shingles(each or [])
        if len(hashes) == 1:
            (only,) = dull_shingles(each or [])
            assert meaning.setdefault(int(hashes[0]), only) == only


def test_the_captions_of_78_languages() -> None:
    lines = [line.split("\t")[1] for line in TUX.read_text().splitlines() if not line.startswith("#")]
    check([*lines, *lines[:3], None, "", "!?"])


ALPHABET = (
    "aAzZ09 .,-'\n\t_\u00e9e\u0301\ufb01\u00c4\u00df\u0130\u2163\u624b\u673a\u30ab\uff76\uff9e\u0e2a\u0e27\u0e31"
    "\u0939\u093f\u200d\xad\ufe0f\u2764\U0001f600\U00020000\u0627\u064b\u3007\u3042\u30fc"
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.none() | st.text(ALPHABET, max_size=20), max_size=8))
def test_against_the_definition(texts: list[str | None]) -> None:
    check(texts)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.text(max_size=20), max_size=12), st.integers(0, 12))
def test_parts_and_slices_change_nothing(texts: list[str | None], cut: int) -> None:
    whole = pa.array(texts, pa.string())
    chunked = pa.chunked_array([texts[:cut], texts[cut:]], pa.string())
    assert normal_form(chunked).equals(normal_form(whole))
    assert normal_form(whole[cut:]).to_pylist() == normal_form(whole).to_pylist()[cut:]
    normal = normal_form(whole)
    sets, tail = shingle_sets(normal), shingle_sets(normal[cut:])
    begin = sets.offsets[min(cut, len(texts))]
    assert np.array_equal(sets.hashes[begin:], tail.hashes)
    again = normal_form(normal)
    assert again.equals(normal)


def test_shingles_of_other_lengths() -> None:
    normal = normal_form(pa.array(["a b c d", "a b", "\u624b\u673a\u58f3\u4fdd\u62a4"]))
    assert np.diff(shingle_sets(normal, words=3, characters=5).offsets).tolist() == [2, 1, 1]
    assert np.diff(shingle_sets(normal, words=1, characters=1).offsets).tolist() == [4, 2, 5]
    with pytest.raises(ValueError, match="at least 1"):
        shingle_sets(normal, words=0)


def test_hashes_are_those_of_every_machine() -> None:
    sets = shingle_sets(normal_form(pa.array(["A red car", "\u7ea2\u8272\u6c7d\u8f66"])))
    assert [f"{value:016x}" for value in sets.hashes.tolist()] == HASHES


HASHES = ["8b3fc13ac3beb17d", "afa988f88edbfa98", "dd207b638c2e74b6", "fbf3aac8517b832b"]
