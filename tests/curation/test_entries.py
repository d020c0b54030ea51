"""The entry matcher against the dull definition, on real captions, synthetic mixes and whatever hypothesis finds."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import entry_trie
from curation.entries import (
    EntryMatcher,
    entries_digest,
    load_entries,
    matches_dully,
    normalised,
    padded,
    spaced,
)

CAPTIONS = Path(__file__).parent / "data" / "tux_captions.tsv"


def captions() -> list[str]:
    lines = CAPTIONS.read_text().splitlines()
    return [line.split("\t", 1)[1] for line in lines if not line.startswith("#")]


@pytest.fixture(scope="module")
def packaged() -> list[str]:
    return load_entries("entries_en")


def test_definition() -> None:
    assert spaced("dog, cat") == " dog ,  cat "
    assert spaced("a\tb\r\nc") == " a b  c "
    assert padded("dog") == " dog "


@pytest.mark.parametrize(
    ("entry", "text", "strict", "fixed"),
    [
        ("St. Louis", "a street in St. Louis", False, True),
        ("dog", 'a "dog"', False, True),
        ("dog", "dog, cat", True, True),
        ("dog", "dog/cat", False, True),
        ("dog", "(dog)", False, True),
        ("dog", "dog's", False, True),
        ("dog", "dogs", False, False),
        ("dog", "Dog", False, True),
        ("new york", "New York", False, True),
        ("hot dog", "hot\u00a0dog", False, True),
        ("hot dog", "hot  dog", False, True),
        ("hot dog", "hot dog stand", True, True),
        ("カメラ", "新しいカメラを買った", False, True),
        ("東京", "東京タワー", False, True),
        ("한국", "한국의", False, True),
        ("국의", "한국의", False, False),
        ("ﬁre", "fire", False, True),
        ("groß", "GROSS", False, True),
        ("cafe\u0301", "caf\u00e9", False, True),
        (".", "the end.", True, True),
        ("の", "猫のお茶", False, False),
        ("हिंद", "हिंदी", False, False),
    ],
)
def test_modes(entry: str, text: str, strict: bool, fixed: bool) -> None:
    assert EntryMatcher([entry], "strict").match([text]).to_pylist() == [[0] if strict else []]
    assert EntryMatcher([entry], "fixed").match([text]).to_pylist() == [[0] if fixed else []]


def test_strict_is_the_dull_definition_on_real_captions(packaged: list[str]) -> None:
    texts: list[str | None] = list(captions())
    texts += [None, "", " ", "dog", "  dog  ", "a dog,dog . dog!dog"]
    # captions are mostly capitalised once, so look at them in lower case too
    texts += [text.lower() for text in texts if text]
    few = packaged[:4000]
    found = EntryMatcher(few).match(texts).to_pylist()
    assert found == matches_dully(texts, few)
    assert sum(map(len, filter(None, found))) > 1000


def test_strict_is_the_dull_definition_on_mixes() -> None:
    chance = random.Random(0)
    words = ["a", "b", "ab", "", "é", "犬", ".", ",", "a.b", "\t", "B", "long" * 40, "x", "y", "z"]
    entries = list({" ".join(chance.choices(words, k=chance.randint(1, 4))) for _ in range(600)})
    joints = [" ", "  ", ", ", ".", "\n", "-"]
    texts: list[str | None] = [
        "".join(chance.choice(words) + chance.choice(joints) for _ in range(chance.randint(0, 14))) for _ in range(3000)
    ]
    found = EntryMatcher(entries).match(texts).to_pylist()
    assert found == matches_dully(texts, entries)
    assert sum(map(len, filter(None, found))) > 5000


_TEXT = st.text(alphabet="ab .,\t\n犬é", max_size=24)


@settings(max_examples=300, deadline=None)
@given(st.lists(_TEXT, unique=True, max_size=12), st.lists(st.none() | _TEXT, max_size=6))
def test_strict_is_the_dull_definition(entries: list[str], texts: list[str | None]) -> None:
    assert EntryMatcher(entries).match(texts).to_pylist() == matches_dully(texts, entries)


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
    matcher = EntryMatcher([entry], "fixed")
    # a mark that combines with what stands before it is not the entry any more
    surrounded = f"{before}{entry}{after}"
    if f" {normalised(entry)} " in f" {normalised(surrounded)} " and matcher.match([entry]).to_pylist() == [[0]]:
        assert matcher.match([surrounded]).to_pylist() == [[0]]


def test_fixed_gives_equal_entries_the_first_id() -> None:
    assert EntryMatcher(["x", "Dog", "dog", "DOG!"], "fixed").match(["a dog!"]).to_pylist() == [[1, 3]]


def test_more_matches_than_room_for_them() -> None:
    entries = [" ".join(["a"] * k) for k in range(1, 60)]
    assert EntryMatcher(entries).match([" ".join(["a"] * 70)]).to_pylist() == [list(range(59))]


def test_slices_and_nulls() -> None:
    trie = entry_trie.build([b"b", b"a b"], np.array([7, 3], np.int32))
    texts = pa.array(["b", None, "a b", "c", "a b"], pa.large_string())
    assert entry_trie.match(trie, texts.slice(1)).to_pylist() == [None, [3, 7], [], [3, 7]]
    assert entry_trie.match(trie, texts.slice(0, 0)).to_pylist() == []
    assert entry_trie.match(trie, pa.array([], pa.large_string())).to_pylist() == []


def test_building_refuses_two_edges_with_one_key() -> None:
    """The bytes behind a key are compared: a key that is taken by another token is no match, but a reason to stop."""
    flat, offsets, seed = np.frombuffer(b"a", np.uint8), np.array([0, 1], np.int64), np.uint64(1)
    keys, children = np.zeros(16, np.uint64), np.full(16, -1, np.int32)
    assert entry_trie._fill(flat, offsets, keys, children, np.full(2, -1, np.int32), seed) == 2
    # the table now says that the key of "a" leads to node 1, of which a second filling knows no such token
    assert entry_trie._fill(flat, offsets, keys, children, np.full(2, -1, np.int32), seed) == -1


def test_duplicate_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        EntryMatcher(["dog", "dog"])


def test_loading(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("dog\n\nhot dog\n")
    (tmp_path / "b.json").write_text(json.dumps(["dog", "hot dog"]))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(b'["dog", "hot dog"]'))
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"dog\nhot dog"))
    for name in ("a.txt", "b.json", "c.json.gz", "d.txt.gz"):
        assert load_entries(str(tmp_path / name)) == ["dog", "hot dog"]
    assert entries_digest(str(tmp_path / "a.txt")) != entries_digest(str(tmp_path / "b.json"))
    for name, content in (("e.json", b'{"a": 1}'), ("f.json", b"["), ("g.txt.gz", b"no gzip"), ("h.txt", b"\xff")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_entries(str(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="entries_en"):
        load_entries("entries_xx")


def test_the_packaged_list(packaged: list[str]) -> None:
    assert len(packaged) == len(set(packaged)) > 20_000
    assert packaged[:100] == [str(number) for number in range(100)]
    assert {"dog", "baseball game", "penguin", "butterfly", "lighthouse", "red", "swim"} <= set(packaged)
    assert all(entry == entry.strip() and "_" not in entry for entry in packaged)
    licence = Path(__file__).parents[2] / "curation" / "metadata" / "LICENSE.wordnet.txt"
    assert "Princeton University" in licence.read_text()
