"""Repetition, word lists, and relations in a parsed caption."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curation.signals.noun_phrases import NounPhrases, Word, complexity, has_action
from curation.signals.repetition import Repetition
from curation.signals.toxic_words import ToxicWords


@pytest.mark.parametrize(
    ("text", "pieces", "run", "token"),
    [
        ("a dog", 0, 1, 1 / 2),
        ("abcdeabcde", 1 / 6, 1, 1),
        ("soooooooooo good", 5 / 12, 10, 1 / 2),
        ("Hahahahaha", 4 / 6, 1, 1),
        ("Dog dog, dog!", None, 1, 3 / 5),
        ("猫猫猫猫", 0, 4, 1),
        ("買う買う買う買う", 2 / 4, 1, 1 / 2),
        (" . ", 0, 1, 1),
    ],
)
def test_repetition(text: str, pieces: float | None, run: int, token: float) -> None:
    found = Repetition().of_texts([text])
    assert found["longest_run"] == [run]
    assert found["top_token_share"] == [pytest.approx(token)]
    if pieces is None:
        five = [text.lower()[i : i + 5] for i in range(len(text) - 4)]
        pieces = 1 - len(set(five)) / len(five)
    assert found["character_repetition"] == [pytest.approx(pieces)]


def toxic(lists: dict[str, Path], texts: list[str | None], languages: list[str | None]) -> list[list[str] | None]:
    rows = pa.table({"text_clean": pa.array(texts, pa.string()), "language": pa.array(languages, pa.string())})
    table = ToxicWords(lists=lists).compute(rows).to_pydict()
    assert table["num_toxic_words"] == [None if each is None else len(each) for each in table["toxic_words"]]
    found: list[list[str] | None] = table["toxic_words"]
    return found


def test_words_of_the_list_of_the_texts_language(tmp_path: Path) -> None:
    english, german, anywhere = (tmp_path / name for name in ("en", "de", "any"))
    english.write_text("bad word\nass\nASS\n\n")
    german.write_text("mist\nass\n")
    anywhere.write_text("ばか\nxxx\n")
    lists = {"en": english, "de": german}
    texts = ["a BAD  word, an ass's ass", "class assessment", "So ein Mist!", "a bad word", None, "mist", "ass"]
    languages = ["en-GB", "en", "de", "fr", "en", None, "de"]
    assert toxic(lists, texts, languages) == [["ass", "bad word"], [], ["mist"], None, None, None, ["ass"]]
    both = toxic({**lists, "any": anywhere}, ["お前はばかだ", "XXX ass", "xxx"], ["ja", "en", None])
    assert both == [["ばか"], ["ass", "xxx"], ["xxx"]]
    one = ToxicWords(lists=lists)
    (tmp_path / "copy").write_text(english.read_text())
    assert one.key() == ToxicWords(lists={"de": german, "en": tmp_path / "copy"}).key()
    assert one.key() != ToxicWords(lists={"de": english, "en": german}).key()


def test_lists_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "list").write_text("word")
    for lists, message in (
        ({"en": tmp_path / "nowhere"}, "en: there is no word list"),
        ({"en": tmp_path / "empty"}, "holds no word"),
        ({"en-GB": tmp_path / "list"}, "name the list by the primary subtag, 'en'"),
        ({}, "at least 1 item"),
    ):
        with pytest.raises(ValidationError, match=message):
            ToxicWords(lists=lists)


# "A black cat is chasing a small brown bird", as spaCy and as Universal Dependencies trees have it
CHASE = [
    Word("DET", "det", 2), Word("ADJ", "amod", 2), Word("NOUN", "nsubj", 4), Word("AUX", "aux", 4),
    Word("VERB", "ROOT", 4), Word("DET", "det", 8), Word("ADJ", "amod", 8), Word("ADJ", "amod", 8),
    Word("NOUN", "dobj", 4),
]  # fmt: skip
# "red car", "running", "the broken toy", "IMG 1234"
CASES = [
    (CHASE, 3, True),
    ([word._replace(relation="obj" if word.relation == "dobj" else word.relation) for word in CHASE], 3, True),
    ([Word("ADJ", "amod", 1), Word("NOUN", "ROOT", 1)], 1, False),
    ([Word("VERB", "ROOT", 0)], 0, True),
    ([Word("DET", "det", 2), Word("VERB", "amod", 2), Word("NOUN", "ROOT", 2)], 1, False),
    ([Word("PROPN", "compound", 1), Word("NUM", "ROOT", 1)], 0, False),
    ([Word("NOUN", "nsubj:pass", 1), Word("VERB", "ROOT", 1)], 1, True),
    ([], 0, False),
]


@pytest.mark.parametrize(("words", "relations", "action"), CASES)
def test_relations_of_the_busiest_object(words: list[Word], relations: int, action: bool) -> None:
    assert complexity(words) == relations
    assert has_action(words) == action


@pytest.mark.skipif(importlib.util.find_spec("spacy") is not None, reason="spaCy is installed")
def test_without_a_parser_the_recipe_is_refused() -> None:
    with pytest.raises(ValidationError, match="need the package spacy, which is not installed"):
        NounPhrases()


@pytest.mark.skipif(importlib.util.find_spec("en_core_web_sm") is None, reason="no pipeline is installed")
def test_with_a_parser() -> None:
    with pytest.raises(ValidationError, match="spaCy has no pipeline 'xx_none'"):
        NounPhrases(parser="xx_none")
    texts = ["A black cat is chasing a small brown bird.", "Red car", None, "Ein Hund", ""]
    rows = pa.table({"text_clean": pa.array(texts, pa.string()), "language": ["en", "en-US", "en", "de", "en"]})
    found = NounPhrases().compute(rows).to_pydict()
    assert found["noun_phrases"] == [["A black cat", "a small brown bird"], ["Red car"], None, None, []]
    assert found["num_noun_phrases"] == [2, 1, None, None, 0]
    assert found["caption_complexity"] == [3, 1, None, None, 0]
    assert found["caption_has_action"] == [True, False, None, None, False]
