"""Toxic words: which words of a list for its language a text holds."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

import pyarrow as pa
from pydantic import AfterValidator, Field

from curation.entries import EntryMatcher
from curation.entry_forms import normalised
from curation.file_digest import known_digest
from curation.signal import ColumnSignal, Level, as_table
from curation.signals.language import primary

ANY = "any"
"""The key of a list that speaks of texts in every language."""


def _readable(lists: dict[str, Path]) -> dict[str, Path]:
    """A recipe that names a file which is not there, or is empty, is refused when it is read."""
    for language, path in lists.items():
        if language != ANY and language != primary(language):
            raise ValueError(f"{language!r}: name the list by the primary subtag, {primary(language)!r}")
        try:
            words = _words(path)
        except FileNotFoundError:
            raise ValueError(f"{language}: there is no word list {path}") from None
        if not words:
            raise ValueError(f"{language}: the word list {path} holds no word")
    return lists


class ToxicWords(ColumnSignal):
    """Words and phrases of the text that stand on the word list of its language, or on the list for any language.

    Columns: `num_toxic_words`, int32, 0 or more, distinct ones; `toxic_words`, those, as the lists spell them, sorted.
    Whole words are compared, without regard to case, width and the white space between them; in scripts without spaces
    pieces of text are (`curation.entries`, mode fixed). Null without a text, and where no list speaks of the text's
    language, which is not the same as 0. A list says which words, not what is meant: it finds breeds of birds and
    misses insults. Unit: words. Model: none; the digests of the lists are in the key. Source: C4, arXiv 1910.10683
    (drops pages with a word of the List of Dirty, Naughty, Obscene and Otherwise Bad Words, CC BY 4.0, which has one
    file a language in the form that is read here; none comes with this project).
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"
    not_in_key: ClassVar[frozenset[str]] = frozenset({"lists"})

    lists: Annotated[dict[str, Path], AfterValidator(_readable), Field(min_length=1)]
    """Language (primary subtag of BCP 47) or `any` -> a file with one word or phrase a line (UTF-8; `.gz` or not)."""

    def key_extras(self) -> dict[str, object]:
        return {"lists": {language: known_digest(path) for language, path in self.lists.items()}}

    def reads(self) -> tuple[str, ...]:
        return ("text_clean", "language")

    def writes(self) -> pa.Schema:
        return pa.schema({"num_toxic_words": pa.int32(), "toxic_words": pa.list_(pa.string())})

    def compute(self, rows: pa.Table) -> pa.Table:
        texts = rows.column("text_clean").to_pylist()
        languages = [primary(each) if each else None for each in rows.column("language").to_pylist()]
        found: list[set[str] | None] = [None] * len(texts)
        for language, path in self.lists.items():
            spoken = [i for i, each in enumerate(languages) if texts[i] is not None and language in (ANY, each)]
            words, matcher = _matcher(path, known_digest(path))
            for i, numbers in zip(spoken, matcher.match([texts[i] for i in spoken]).to_pylist(), strict=True):
                found[i] = (found[i] or set()) | {words[number] for number in numbers}
        columns: dict[str, Sequence[object]] = {
            "num_toxic_words": [None if each is None else len(each) for each in found],
            "toxic_words": [None if each is None else sorted(each) for each in found],
        }
        return as_table({**columns}, self.writes())


def _words(path: Path) -> list[str]:
    """The list's lines, each form of a word once."""
    words: dict[str, str] = {}
    data = path.read_bytes()
    for line in (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines():
        if line.strip():
            words.setdefault(normalised(line), line.strip())
    return [word for form, word in words.items() if form]


@lru_cache(maxsize=64)
def _matcher(path: Path, _of_content: str) -> tuple[list[str], EntryMatcher]:
    words = _words(path)
    return words, EntryMatcher.of(words, "fixed")
