"""Tags, relations and exchanged captions: precision on captions checked by hand, and what holds of every caption.

The measured figures are kept with the parser's revision. Where the rules change, raise `REVISION` and write them anew:

    TAMIS_WRITE_GOLDEN=1 python -m pytest tests/curation/test_caption_tags.py
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import caption_words as words
from curation.caption_parser import REVISION, negatives, parse, singular
from curation.signals.caption_tags import CaptionTags
from curation.signals.tag_targets import TagTargets

DATA = Path(__file__).parent / "data" / "tagged_captions.tsv"
PRECISION = Path(__file__).parent / "golden" / "tag_precision.json"
FAMILY = pytest.mark.family("F07")


def checked() -> list[tuple[str, set[str], set[str]]]:
    """(caption, what it names, what else would be right)."""
    lines = [line for line in DATA.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    fields = [line.split("\t") for line in lines]
    return [
        (caption, *({tag for tag in each.split(", ") if tag} for each in (named, more)))
        for caption, named, more in fields
    ]


def measured() -> dict[str, object]:
    found = right = named = met = 0
    for caption, things, more in checked():
        tags = set(parse(caption).tags())
        found, right = found + len(tags), right + len(tags & (things | more))
        named, met = named + len(things), met + len(tags & things)
    return {
        "parser_revision": REVISION, "captions": len(checked()), "tags": found, "right": right,
        "precision": round(right / found, 4), "things_named": named, "recall": round(met / named, 4),
    }  # fmt: skip


@FAMILY
def test_precision_on_checked_captions_is_stored_with_the_parsers_revision() -> None:
    """F07 (a)."""
    now = measured()
    if os.environ.get("TAMIS_WRITE_GOLDEN"):
        PRECISION.write_text(json.dumps(now, indent=1) + "\n")
    assert now == json.loads(PRECISION.read_text()), (
        "raise REVISION and write the figures anew (see the top of this file)"
    )
    assert now["captions"] == 100
    assert len({caption for caption, _, _ in checked()}) == 100
    readme = (Path(words.__file__).parent / "README.md").read_text(encoding="utf-8")
    said = re.search(r"parser's revision (\d+): precision ([\d.]+), recall ([\d.]+)", readme)
    assert said is not None
    assert [float(each) for each in said.groups()] == [
        REVISION,
        round(float(str(now["precision"])), 2),
        round(float(str(now["recall"])), 2),
    ]


@FAMILY
@pytest.mark.parametrize(
    ("caption", "tags", "relations"),
    [
        ("A dog wearing sunglasses.", ["dog", "sunglasses"], [("dog", "wearing", "sunglasses")]),
        ("Two red apples on an old wooden table", ["apple", "table"], [("apple", "on", "table")]),
        ("A cup of coffee next to a book", ["coffee", "book"], [("coffee", "next to", "book")]),
        ("The fire truck is parked in front of a house.", ["fire truck", "truck", "house"], []),
        ("A car parked on the road", ["car", "road"], [("car", "parked on", "road")]),
        ("A hoverfly resembles a bee.", ["hoverfly", "bee"], [("hoverfly", "resembles", "bee")]),
        ("", [], []),
        ("The letter F.", ["letter"], []),
        ("12 34 !!!", [], []),
    ],
)
def test_what_a_caption_names(caption: str, tags: list[str], relations: list[tuple[str, str, str]]) -> None:
    parsed = parse(caption)
    assert parsed.tags() == tags
    if relations:
        assert [(r.subject.tags()[0], r.relation, r.object.tags()[0]) for r in parsed.relations] == relations


@FAMILY
def test_exchanged_captions() -> None:
    assert negatives("A dog chasing a cat.") == [("roles", "A cat chasing a dog.")]
    assert negatives("An apple on a plate") == [("roles", "A plate on an apple")]
    assert negatives("A red car behind a blue truck") == [
        ("roles", "A blue truck behind a red car"),
        ("attributes", "A blue car behind a red truck"),
    ]
    for caption in ("A dog.", "", "A dog and a cat", "A dog next to a dog", "A cup of coffee"):
        assert negatives(caption) == []


def content(text: str) -> Counter[str]:
    found = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())
    return Counter(word for word in found if word not in words.CLOSED)


def check_negatives(caption: str) -> int:
    """F07 (d): each differs from its caption and has the same multiset of content words."""
    made = negatives(caption)
    for _, text in made:
        assert text.lower() != caption.lower()
        assert content(text) == content(caption)
    assert len({text for _, text in made}) == len(made)
    return len(made)


@FAMILY
def test_negatives_of_the_checked_captions_have_the_same_words() -> None:
    assert sum(check_negatives(caption) for caption, _, _ in checked()) > 40


WORDS = [
    "a",
    "an",
    "the",
    "dog",
    "Dog",
    "red",
    "cat",
    "on",
    "of",
    "and",
    "is",
    "chasing",
    "big",
    ".",
    ",",
    "3",
    "to",
    "sits",
    "Tom's",
    "x",
]


@FAMILY
@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), st.text(max_size=60)))
def test_of_any_text(caption: str) -> None:
    check_negatives(caption)
    parsed = parse(caption)
    for tag in parsed.tags():
        assert tag == tag.lower() == tag.strip() != ""
    for phrase in parsed.phrases:
        assert 0 <= phrase.begin <= phrase.start < phrase.end <= len(caption)
        assert phrase.nouns
    for one, two in zip(parsed.phrases, parsed.phrases[1:], strict=False):
        assert one.end <= two.begin


@FAMILY
@pytest.mark.parametrize(
    ("noun", "one"),
    [("dogs", "dog"), ("cherries", "cherry"), ("boxes", "box"), ("glass", "glass"), ("buses", "bus"), ("bus", "bus"),
     ("children", "child"), ("leaves", "leaf"), ("scissors", "scissors"), ("knight's", "knight"), ("pies", "pie")],
)  # fmt: skip
def test_singular(noun: str, one: str) -> None:
    assert singular(noun) == one


@FAMILY
def test_other_languages_have_the_entries_of_theirs_and_no_language_is_silent() -> None:
    """Without a list a language has null tags, which the report `tags` counts; not an empty list."""
    texts = ["A dog on a sofa", "Ein Hund und ein Feuerwehrauto", "犬と猫", "Atoro.", None, "A dog"]
    languages = ["en-GB", "de", "ja", "ach", "en", None]
    rows = pa.table({"text_clean": pa.array(texts, pa.string()), "language_claimed": languages})
    found = CaptionTags().compute(rows).to_pylist()
    assert [row["tags_by"] for row in found] == ["parser", "entries", "entries", None, None, None]
    assert found[0]["tags"] == ["dog", "sofa"]
    assert found[0]["relations"] == [{"subject": "dog", "relation": "on", "object": "sofa"}]
    assert found[0]["caption_negatives"] == [{"text": "A sofa on a dog", "kind": "roles"}]
    assert {"hund", "feuerwehrauto"} <= {tag.lower() for tag in found[1]["tags"]}
    assert {"犬", "猫"} <= set(found[2]["tags"])
    assert found[3] == found[4] == found[5] == dict.fromkeys(CaptionTags().writes().names)


@FAMILY
def test_targets_are_the_commonest_tags() -> None:
    tags = [["dog", "cat"], ["dog"], [], None, ["dog", "cat", "fox"], ["cat", "ant"], ["dog", "dog"]]
    rows = pa.table({"text_uid": [f"t{k}" for k in range(7)], "tags": pa.array(tags, pa.list_(pa.string()))})
    signal = TagTargets(num_tags=3)
    fit = signal.fit_pool([rows])
    assert fit.to_pylist() == [
        {"tag": "dog", "num_texts": 4},
        {"tag": "cat", "num_texts": 3},
        {"tag": "ant", "num_texts": 1},
    ]
    made = signal.apply(rows, fit).column("tag_targets").to_pylist()
    assert made == [[1, 1, 0], [1, 0, 0], [0, 0, 0], None, [1, 1, 0], [0, 1, 1], [1, 0, 0]]
