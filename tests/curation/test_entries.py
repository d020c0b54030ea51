"""The entry matcher against the dull definition, on real captions, synthetic mixes and whatever hypothesis finds."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import array_file, entry_trie
from curation.entries import EntryMatcher, shared_matcher
from curation.entry_forms import Mode, normalised, padded, padded2, spaced
from curation.metadata_lists import load_metadata
from tests.curation.dull_entries import matches_dully

MODES: list[Mode] = ["strict", "strict2", "fixed"]
CAPTIONS = Path(__file__).parent / "data" / "tux_captions.tsv"


def captions() -> list[str]:
    lines = CAPTIONS.read_text().splitlines()
    return [line.split("\t", 1)[1] for line in lines if not line.startswith("#")]


@pytest.fixture(scope="module")
def packaged() -> list[str]:
    return load_metadata("entries_en").entries()


def test_definition() -> None:
    assert spaced("dog, cat") == " dog ,  cat "
    assert spaced("a\tb\r\nc") == " a b  c "
    assert padded("dog") == " dog "
    assert [padded2(entry) for entry in ("dog", "東京", "東京 Tower", "カメラ", "(dog", "กา")] == [
        " dog ", "東京", "東京 Tower ", " カメラ ", "(dog ", "กา",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "text", "strict", "strict2", "fixed"),
    [
        ("St. Louis", "a street in St. Louis", False, False, True),
        ("dog", 'a "dog"', False, False, True),
        ("dog", "dog, cat", True, True, True),
        ("dog", "dog/cat", False, False, True),
        ("dog", "(dog)", False, False, True),
        ("dog", "dog's", False, False, True),
        ("dog", "dogs", False, False, False),
        ("dog", "Dog", False, False, True),
        ("new york", "New York", False, False, True),
        ("hot dog", "hot\u00a0dog", False, False, True),
        ("hot dog", "hot  dog", False, False, True),
        ("hot dog", "hot dog stand", True, True, True),
        ("カメラ", "新しいカメラを買った", False, False, True),
        ("お茶", "猫がお茶を飲む", False, False, True),
        ("東京", "東京タワー", False, True, True),
        ("ช้าง", "รูปช้างตัวใหญ่", False, True, True),
        ("กา", "การบ้าน", False, True, True),
        ("ก", "กิน", False, True, False),
        ("ខ្មែរ", "ភាសាខ្មែរ", False, True, True),
        ("ក", "ក្រ", False, True, False),
        ("မြန်မာ", "မြန်မာစာ", False, True, True),
        ("བོད་ཡིག", "བོད་ཡིག་སློབ", False, True, True),
        ("ລາວ", "ພາສາລາວ", False, True, True),
        ("猫", "猫パンチ", False, True, True),
        ("한국", "한국의", False, False, True),
        ("국의", "한국의", False, False, False),
        ("ﬁre", "fire", False, False, True),
        ("groß", "GROSS", False, False, True),
        ("cafe\u0301", "caf\u00e9", False, False, True),
        ("cafe\u0301", "cafe\u0301s", False, False, False),
        ("☁", "a ☁\ufe0f!", False, False, True),
        (".", "the end.", True, True, True),
        ("の", "猫のお茶", False, False, False),
        ("हिंद", "हिंदी", False, False, False),
        ("hot-dog", "hot-dog", True, True, True),
        ("hot dog", "hot-dog", False, False, False),
    ],
)
def test_modes(entry: str, text: str, strict: bool, strict2: bool, fixed: bool) -> None:
    for mode, expected in (("strict", strict), ("strict2", strict2), ("fixed", fixed)):
        assert EntryMatcher.of([entry], mode).match([text]).to_pylist() == [[0] if expected else []], mode
        assert matches_dully([text], [entry], mode) == [[0] if expected else []], mode


def test_the_matchers_are_the_dull_definition_on_real_captions(packaged: list[str]) -> None:
    texts: list[str | None] = list(captions())
    texts += [None, "", " ", "dog", "  dog  ", "a dog,dog . dog!dog"]
    # captions are mostly capitalised once, so look at them in lower case too
    texts += [text.lower() for text in texts if text]
    few = packaged[:1000]
    # entries of scripts that need no spaces, cut out of the captions themselves
    chance = random.Random(1)
    cut = [text[k : k + chance.randint(1, 4)] for text in texts if text for k in [chance.randrange(len(text))]]
    few += sorted({piece for piece in cut if not piece.isascii() and piece not in few})[:700]
    for mode in MODES:
        found = EntryMatcher.of(few, mode).match(texts).to_pylist()
        assert found == matches_dully(texts, few, mode), mode
        assert sum(map(len, filter(None, found))) > 500


def test_the_matchers_are_the_dull_definition_on_mixes() -> None:
    chance = random.Random(0)
    words = [
        "a",
        "b",
        "ab",
        "",
        "é",
        "犬",
        ".",
        ",",
        "a.b",
        "\t",
        "B",
        "long" * 40,
        "longlong",
        "longlonh",
        "กิน",
        "한국",
    ]
    entries = list({" ".join(chance.choices(words, k=chance.randint(1, 4))) for _ in range(600)})
    joints = [" ", "  ", ", ", ".", "\n", "-", ""]
    texts: list[str | None] = [
        "".join(chance.choice(words) + chance.choice(joints) for _ in range(chance.randint(0, 14))) for _ in range(2000)
    ]
    for mode in MODES:
        found = EntryMatcher.of(entries, mode).match(texts).to_pylist()
        assert found == matches_dully(texts, entries, mode), mode
        assert sum(map(len, filter(None, found))) > 2500


_TEXT = st.text(alphabet="abB .,(\t\n犬茶é\u0301กิ한글のカー\U0001f600", max_size=24)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=80, deadline=None)
@given(st.lists(_TEXT, unique=True, max_size=12), st.lists(st.none() | _TEXT, max_size=6))
def test_the_matchers_are_the_dull_definition(mode: Mode, entries: list[str], texts: list[str | None]) -> None:
    assert EntryMatcher.of(entries, mode).match(texts).to_pylist() == matches_dully(texts, entries, mode)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=8), unique=True, max_size=6), st.lists(st.text(max_size=30), max_size=4))
def test_so_they_are_on_whatever_unicode_has(mode: Mode, entries: list[str], texts: list[str | None]) -> None:
    texts = [*texts, *(" ".join(entries[k:]) for k in range(len(entries)))]
    assert EntryMatcher.of(entries, mode).match(texts).to_pylist() == matches_dully(texts, entries, mode)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing_but_hangul_marks(text: str) -> None:
    once = normalised(text)
    assert not once.startswith(" ")
    assert "  " not in once
    if not any("\uac00" <= char <= "\ud7a3" or char == "\ue000" for char in once):
        assert normalised(once) == once


@settings(max_examples=200, deadline=None)
@given(
    st.text(min_size=1, max_size=12),
    st.sampled_from(["", " ", "(", "«", "\u3000", ", "]),
    st.sampled_from(["", "!", " x"]),
)
def test_fixed_finds_an_entry_in_itself_between_boundaries(entry: str, before: str, after: str) -> None:
    matcher = EntryMatcher.of([entry], "fixed")
    # a mark that combines with what stands before it is not the entry any more
    surrounded = f"{before}{entry}{after}"
    if f" {normalised(entry)} " in f" {normalised(surrounded)} " and matcher.match([entry]).to_pylist() == [[0]]:
        assert matcher.match([surrounded]).to_pylist() == [[0]]


def test_fixed_gives_equal_entries_the_first_id() -> None:
    assert EntryMatcher.of(["x", "Dog", "dog", "DOG!"], "fixed").match(["a dog!"]).to_pylist() == [[1, 3]]


def test_more_matches_than_room_for_them() -> None:
    entries = [" ".join(["a"] * k) for k in range(1, 60)]
    assert EntryMatcher.of(entries).match([" ".join(["a"] * 70)]).to_pylist() == [list(range(59))]


def test_slices_and_nulls() -> None:
    reading = entry_trie.Reading(
        np.where(np.arange(256) == 32, 1, 0).astype(np.uint8), np.arange(256, dtype=np.uint8), False
    )
    trie = entry_trie.build([b"b", b"a b"], np.array([7, 3], np.int32))
    for kind in (pa.string(), pa.large_string()):
        texts = pa.array(["b", None, "a b", "c", "a b"], kind)
        assert entry_trie.match(trie, texts.slice(1), reading).to_pylist() == [None, [3, 7], [], [3, 7]]
        assert entry_trie.match(trie, texts.slice(0, 0), reading).to_pylist() == []
        assert entry_trie.match(trie, pa.array([], kind), reading).to_pylist() == []


def test_duplicate_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        EntryMatcher.of(["dog", "dog"])


@pytest.mark.parametrize("mode", MODES)
def test_tables_in_a_file_are_those_in_memory(tmp_path: Path, mode: Mode) -> None:
    entries = ["dog", "hot dog", "a very long token-string", "東京"]
    texts = ["a hot dog", None, "東京タワー a very long token-string"]
    expected = EntryMatcher.of(entries, mode, first_id=5).match(texts)
    asked = []

    def listed() -> list[str]:
        asked.append(mode)
        return entries

    assert shared_matcher(None, "x", mode, 5, listed).match(texts).equals(expected)
    assert shared_matcher(tmp_path, "x", mode, 5, listed).match(texts).equals(expected)
    assert shared_matcher(tmp_path, "x", mode, 5, listed).match(texts).equals(expected)
    assert len(asked) == 2  # the second time from the file
    damaged = bytearray((tmp_path / "x").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "y").write_bytes(damaged)
    assert shared_matcher(tmp_path, "y", mode, 5, listed).match(texts).equals(expected)
    assert len(asked) == 3
    assert (tmp_path / "y").read_bytes() == (tmp_path / "x").read_bytes()


def test_array_files(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "none": np.zeros(0, np.uint8), "b": np.ones(3)}
    array_file.save(tmp_path / "f", arrays)
    found = array_file.load(tmp_path / "f")
    assert all(np.array_equal(found[name], array) and not found[name].flags.writeable for name, array in arrays.items())
    assert [found[name].dtype for name in found] == [array.dtype for array in arrays.values()]
    content = (tmp_path / "f").read_bytes()
    for name, damaged in (("short", content[:-3]), ("empty", b""), ("foreign", b"x" * 100), ("header", content[:40])):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=name):
            array_file.load(tmp_path / name)


def test_500_000_entries_fit_in_30_MB() -> None:
    """The shape of MetaCLIP's list: 62% of one word, 32% of two, 6% of three, words of about seven letters."""
    chance = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = list({"".join(chance.choices(letters, k=chance.randint(3, 11))) for _ in range(320_000)})
    entries = words[:310_000] + [" ".join(chance.sample(words, 2)) for _ in range(159_000)]
    entries += [" ".join(chance.sample(words, 3)) for _ in range(500_000 - len(entries))]
    assert EntryMatcher.of(list(dict.fromkeys(entries)), "strict").size_bytes <= 30e6
