"""Noun phrases: what a caption speaks of, and how much it says about it, where a parser is installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple

import pyarrow as pa
from pydantic import AfterValidator, Field

from curation.signal import ColumnSignal, Level, as_table
from curation.signals.language import primary

# What stands below a noun and says something about it, and what a noun is to the word that it stands below; labels of
# spaCy's English pipelines (ClearNLP) and of Universal Dependencies.
_SAID_OF_A_NOUN = frozenset({"amod", "nummod", "compound", "poss", "nmod", "appos", "acl", "relcl", "prep"})
_ROLE_OF_A_NOUN = frozenset({"nsubj", "nsubjpass", "dobj", "obj", "iobj", "dative", "pobj", "obl", "nmod"})
_PART_OF_A_NAME = frozenset({"compound", "flat", "fixed"})


MAX_CHARACTERS = 10_000
"""Of a text that is parsed: a caption is far shorter, and spaCy needs 1 GB for 100,000 words and refuses more."""


class Word(NamedTuple):
    """A word of a parsed sentence."""

    tag: str
    """Universal part of speech, such as NOUN."""
    relation: str
    """Label of its dependency."""
    head: int
    """Place of the word that it stands below; its own for a root."""


def complexity(words: Sequence[Word]) -> int:
    """The largest number of relations that any object (noun) of the sentence has; 0 without objects.

    In "a black cat is chasing a small brown bird", bird has three: small, brown, and being chased.
    """
    relations = [word.relation.split(":")[0] for word in words]
    nouns = {i for i, word in enumerate(words) if word.tag in ("NOUN", "PROPN") and relations[i] not in _PART_OF_A_NAME}
    counts = dict.fromkeys(nouns, 0)
    for i, word in enumerate(words):
        if relations[i] in _SAID_OF_A_NOUN and word.head in nouns and word.head != i:
            counts[word.head] += 1
        if relations[i] in _ROLE_OF_A_NOUN and i in nouns:
            counts[i] += 1
    return max(counts.values(), default=0)


def has_action(words: Sequence[Word]) -> bool:
    """Whether something is done: a verb that is more than an adjective ("running", not "broken" in "a broken toy")."""
    return any(word.tag == "VERB" and word.relation.split(":")[0] != "amod" for word in words)


@lru_cache(maxsize=4)
def _load(parser: str) -> Any:
    """The pipeline, once per process. Raises ValueError naming what is to be installed."""
    try:
        spacy = importlib.import_module("spacy")
    except ImportError:
        raise ValueError(
            f"noun phrases need the package spacy, which is not installed, and its pipeline {parser}"
        ) from None
    try:
        pipeline = spacy.load(parser, exclude=["ner", "lemmatizer", "textcat"])
    except OSError:
        raise ValueError(f"spaCy has no pipeline {parser!r}: `python -m spacy download {parser}` installs it") from None
    if "parser" not in pipeline.pipe_names:
        raise ValueError(f"the pipeline {parser!r} has no parser; it has {', '.join(pipeline.pipe_names) or 'nothing'}")
    return pipeline


def _installed(parser: str) -> str:
    """A recipe that names a parser which is not installed is refused when it is read."""
    _load(parser)
    return parser


class NounPhrases(ColumnSignal):
    """Noun phrases and relations of a caption, by a dependency parser, for texts in its languages.

    Columns: `noun_phrases`, the phrases in order, as they stand in the text; `num_noun_phrases`, int32, 0 or more;
    `caption_complexity`, int32, 0 or more, the largest number of relations that any object has (`complexity`);
    `caption_has_action`, whether something is done. Null without a text, in other languages than `languages`, and for
    texts of more than 10,000 characters.
    Unit: phrases; relations. Model: a spaCy pipeline, which has to be installed; its name and version and that of spaCy
    are in the key. Source: the C and A of CAT, Radenovic et al. 2023, arXiv 2301.02280 (keeps captions of complexity 1
    or more with an action); which relations of a dependency tree count is this project's reading of it.
    """

    version: ClassVar[int] = 2
    level: ClassVar[Level] = "text"

    parser: Annotated[str, AfterValidator(_installed), Field(validate_default=True)] = "en_core_web_sm"
    """Name of an installed spaCy pipeline with a parser."""
    languages: tuple[str, ...] = ("en",)
    """Languages (primary subtags of BCP 47) that the pipeline parses."""

    def key_extras(self) -> dict[str, object]:
        meta = _load(self.parser).meta
        return {"pipeline": [meta["lang"], meta["name"], meta["version"]], "spacy": _spacy_version()}

    def reads(self) -> tuple[str, ...]:
        return ("text_clean", "language")

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "noun_phrases": pa.list_(pa.string()),
                "num_noun_phrases": pa.int32(),
                "caption_complexity": pa.int32(),
                "caption_has_action": pa.bool_(),
            }
        )

    def compute(self, rows: pa.Table) -> pa.Table:
        texts = rows.column("text_clean").to_pylist()
        languages = rows.column("language").to_pylist()
        spoken = [
            i
            for i, (text, language) in enumerate(zip(texts, languages, strict=True))
            if text is not None and len(text) <= MAX_CHARACTERS and language and primary(language) in self.languages
        ]
        columns: dict[str, list[object]] = {name: [None] * len(texts) for name in self.writes().names}
        for i, document in zip(spoken, _load(self.parser).pipe([texts[i] for i in spoken]), strict=True):
            words = [Word(token.pos_, token.dep_, token.head.i) for token in document]
            phrases = [chunk.text for chunk in document.noun_chunks]
            values = (phrases, len(phrases), complexity(words), has_action(words))
            for name, value in zip(columns, values, strict=True):
                columns[name][i] = value
        return as_table({**columns}, self.writes())


def _spacy_version() -> str:
    return str(importlib.import_module("spacy").__version__)
