"""pretrain/caption_edits.py and robustness.py: edits of one span, and figures against a plain reading of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.caption_edits import (
    ATTRIBUTES,
    RELATIONS,
    attributes_in,
    change_word_order,
    insert_attribute,
    names_in,
    replace_attribute,
    replace_object,
    replace_relation,
)
from pretrain.robustness import edits_of, robustness
from pretrain.suites import Suite

OBJECTS = ["apple", "bald eagle", "eagle", "tree", "house"]
WORDS = st.sampled_from(
    ["A", "the", "RED", "big", "on", "under", "apple", "bald", "eagle", "tree", "x", "old", "near,"]
)


def changed_span(a: list[str], b: list[str]) -> tuple[list[str], list[str]]:
    """The words that are left of both without their common beginning and end."""
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    end = 0
    while end < min(len(a), len(b)) - start and a[len(a) - 1 - end] == b[len(b) - 1 - end]:
        end += 1
    return a[start : len(a) - end], b[start : len(b) - end]


@pytest.mark.family("F32")
@given(st.lists(WORDS, min_size=1, max_size=9).map(" ".join))
def test_an_edit_differs_in_exactly_one_span(caption: str) -> None:
    """F32 (d): whole words of one place go, whole words come, the rest stays."""
    for edit in (
        replace_object(caption, OBJECTS), replace_attribute(caption), replace_relation(caption),
        insert_attribute(caption, OBJECTS),
    ):  # fmt: skip
        if edit is None:
            continue
        gone, came = changed_span(caption.split(), edit.text.split())
        if edit.kind == "attribute_inserted":
            assert gone == []
            assert any(" ".join(came) in words for words in ATTRIBUTES.values())
        else:
            assert 1 <= len(gone) <= 2  # an object may have two words
            assert 1 <= len(came) <= 2
    order = change_word_order(caption)
    if order is not None:
        assert sorted(order.text.split()) == sorted(caption.split())
        assert order.text.split() != caption.split()
    else:
        assert len(caption.split()) < 3 or len(set(caption.split())) == 1


def test_what_is_replaced_and_by_what() -> None:
    edit = replace_object("A bald eagle on a tree.", OBJECTS, own=["bald eagle", "tree"])
    assert edit is not None
    assert edit.text in ("A apple on a tree.", "A house on a tree.")  # the longest object that stands there first
    assert replace_object("A boat.", OBJECTS) is None
    assert replace_object("An apple.", ["apple"]) is None
    attribute = replace_attribute("Red shoes on an old box")
    assert attribute is not None
    first, rest = attribute.text.split(" ", 1)
    assert rest == "shoes on an old box"
    assert first[0].isupper()
    assert first.lower() in set(ATTRIBUTES["colour"]) - {"red"}
    relation = replace_relation("a cat under the table")
    assert relation is not None
    assert relation.text.split()[2] in set(RELATIONS) - {"under"}
    assert replace_attribute("a tired cat") is None  # `red` is no word of it
    assert insert_attribute("An apple.", OBJECTS, true=["green"]) is not None
    assert insert_attribute("An apple.", OBJECTS, true=["green"]).text == "An green apple."  # type: ignore[union-attr]
    assert names_in(["An apple.", "the red apple", "A bald eagle!", "apples and pears", "An old red house."]) == [
        "apple", "bald eagle",
    ]  # fmt: skip
    assert attributes_in(["Two RED boats", "a wooden house"]) == ["red", "wooden"]


def suite_of(captions: list[str], languages: list[tuple[str, ...]]) -> Suite:
    own = np.eye(len(captions), dtype=bool)
    return Suite("s", np.arange(len(captions)), captions, languages, own, [f"u{n}" for n in range(len(captions))])


@pytest.mark.family("F32")
def test_robustness_equals_a_plain_reading() -> None:
    captions = [f"A {colour} {name} on the table" for colour in ("red", "green", "blue", "black") for name in OBJECTS]
    suite = suite_of(captions, [("en",)] * len(captions))
    tags = [[caption.split(" ", 2)[2].split(" on ")[0]] for caption in captions]
    generator = np.random.default_rng(0)
    table: dict[str, np.ndarray] = {}

    def encode(texts: Any) -> np.ndarray:
        for text in texts:
            made = generator.normal(size=6)
            table.setdefault(text, made / np.linalg.norm(made))
        return np.stack([table[text] for text in texts])

    image_PD, text_TD = encode([f"picture {n}" for n in range(20)]), encode(captions)
    found = robustness(suite, image_PD, text_TD, encode, tags)
    figures = {row["metric"]: row for row in found.figures}
    kinds = edits_of(suite, tags)
    assert {kind: len(edits) for kind, edits in kinds.items()} == {
        "object": 20, "attribute": 20, "relation": 20, "word_order": 20, "attribute_inserted": 20,
    }  # fmt: skip
    for kind in ("object", "attribute", "relation", "word_order"):
        right = [float(image_PD[p] @ table[e.original] > image_PD[p] @ table[e.text]) for p, e in kinds[kind]]
        row = figures[f"prefers_true_over_{kind}"]
        assert row["value"] == pytest.approx(np.mean(right))
        assert (row["chance"], row["n"], row["suite"]) == (0.5, 20, "s:edits")
        assert row["lo"] <= 0.5 <= row["hi"]  # random vectors prefer nothing

    def reciprocal(text: str, picture: int) -> float:
        scores = image_PD @ table[text]
        return 1 / float((scores >= scores[picture]).sum())

    edits = kinds["attribute_inserted"]
    before, after = (np.mean([reciprocal(getattr(e, which), p) for p, e in edits]) for which in ("original", "text"))
    assert figures["reciprocal_rank_before_attribute_inserted"]["value"] == pytest.approx(before)
    assert figures["reciprocal_rank_attribute_inserted"]["value"] == pytest.approx(after)
    drop = figures["reciprocal_rank_drop_attribute_inserted"]
    assert drop["value"] == pytest.approx(before - after)
    assert drop["lo"] <= drop["chance"] == 0 <= drop["hi"]
    harmonic = sum(1 / k for k in range(1, 21)) / 20
    assert figures["reciprocal_rank_before_word_order"]["chance"] == pytest.approx(harmonic)
    values = [row["value"] for row in found.outcomes if row["measure"] == "reciprocal_rank_drop_word_order"]
    assert np.mean(values) == pytest.approx(figures["reciprocal_rank_drop_word_order"]["value"])


def test_a_model_that_does_not_see_an_edit_gets_nothing_for_it() -> None:
    captions = [f"some words of number {n}" for n in range(12)]
    image = np.eye(12, 16)

    def bag(texts: Any) -> np.ndarray:
        return np.stack([image[int(next(word for word in text.split() if word.isdigit()))] for text in texts])

    found = robustness(suite_of(captions, [("xx",)] * 12), image, bag(captions), bag)
    figures = {row["metric"]: row["value"] for row in found.figures}
    assert figures == {
        "prefers_true_over_word_order": 0.0,
        "reciprocal_rank_before_word_order": 1.0,
        "reciprocal_rank_word_order": 1.0,
        "reciprocal_rank_drop_word_order": 0.0,
    }
