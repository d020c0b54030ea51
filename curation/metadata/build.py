"""Building a list of metadata entries from several sources, as MetaCLIP 1 and 2 do: `tamis metadata build`."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from curation.metadata import sources
from curation.metadata.ngrams import MAX_PAIRS, Ngrams
from curation.metadata.sources import Found, MetadataError
from curation.metadata_lists import ENTRIES, Metadata, load_metadata, merged

MAX_CHARACTERS = 256
"""MetaCLIP 2 leaves out longer entries."""


class BuildOptions(BaseModel):
    """Where entries come from and how many of each kind; the numbers are MetaCLIP 1's unless something else is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    numbers: bool = True
    """0 to 99, in every language."""
    base: list[str] = []
    """Lists that are there already: files, or names of packaged ones ("worldwide")."""
    wordnets: list[tuple[str | None, Path]] = []
    """(language or None, path), see `sources.wordnet`."""
    lists: list[tuple[str, Path]] = []
    """(language, path): one entry a line."""
    corpora: list[tuple[str | None, Path]] = []
    """(language or None, path), see `sources.texts`."""
    text_column: str = "text"
    language_column: str | None = None
    page_views: list[Path] = []
    """Files of page views, all languages together, see `sources.page_views`."""
    languages: list[str] = []
    """Only these; empty: all that are found."""
    min_count: int = Field(default=100, ge=1)
    """Occurrences of a word."""
    word_share: float = Field(default=1.0, gt=0, le=1)
    """The most frequent of these words; MetaCLIP 2 takes 0.1."""
    max_words: int = Field(default=251_465, ge=0)
    min_pair_count: int = Field(default=10, ge=1)
    """Occurrences of a pair of words (this project's choice: PMI alone favours accidents)."""
    min_pmi: float = 6.0
    """Bits (this project's choice, see `Ngrams.bigrams`)."""
    max_pairs: int = Field(default=100_646, ge=0)
    min_views: int = Field(default=70, ge=1)
    max_titles: int = Field(default=61_235, ge=0)
    licences: dict[str, str] = {}
    """File name -> its licence, where the file does not say it itself; recorded."""


def build(options: BuildOptions, say: Callable[[str], None] = lambda _line: None) -> Metadata:
    """The list: languages by their tags; within one, the numbers, then each source in the order of the fields above;
    an entry belongs to the first source that has it. Raises MetadataError naming the file that cannot be used."""
    found: list[tuple[str, Path | None, Found]] = []
    for name in options.base:
        found += [(name, None, each) for each in _of_list(name)]
    for tag, path in options.wordnets:
        found += [(f"wordnet {path.name}", path, each) for each in sources.wordnet(path, tag)]
    for tag, path in options.lists:
        found.append((path.name, path, sources.plain_list(path, tag)))
    for language, ngrams in sorted(_count(options, say).items()):
        words = ngrams.unigrams(options.min_count, options.word_share, options.max_words)
        pairs = ngrams.bigrams(options.min_pair_count, options.min_pmi, options.max_pairs)
        found += [("words", None, Found(language, words)), ("pairs of words", None, Found(language, pairs))]
    if options.page_views:
        titles = sources.page_views(options.page_views, options.min_views, options.max_titles)
        found += [("page views", None, each) for each in titles]
    found = [each for each in found if not options.languages or each[2].language in options.languages]
    languages = sorted({each.language for _, _, each in found})
    if not languages:
        raise MetadataError("no entries: name at least one source (a wordnet, a list, a corpus, page views)")
    numbers = Found("", [(str(number), None) for number in range(100)] if options.numbers else [])
    lists = [(tag, "numbers", numbers.entries) for tag in languages]
    lists += [(each.language, name, [pair for pair in each.entries if is_entry(pair[0])]) for name, _, each in found]
    table = merged(languages, lists)
    taken: dict[str, int] = {}
    for source in table.column("source").to_pylist():
        taken[source] = taken.get(source, 0) + 1
    return Metadata(table.cast(ENTRIES), {"options": _plain(options), "sources": _about(found, taken, options)})


def is_entry(text: str) -> bool:
    """Not empty, not longer than 256 characters, and not of punctuation, symbols and spaces alone."""
    return len(text) <= MAX_CHARACTERS and any(unicodedata.category(char)[0] not in "PSZC" for char in text)


def _of_list(name: str) -> Iterable[Found]:
    metadata = load_metadata(name)
    notes = "; ".join(dict.fromkeys(str(each["licence"]) for each in metadata.about["sources"] if each.get("licence")))
    for language, ids in metadata.languages.items():
        counts = metadata.table.column("count").slice(ids.start, len(ids)).to_pylist()
        yield Found(language, list(zip(metadata.entries(language), counts, strict=True)), notes or None)


def _count(options: BuildOptions, say: Callable[[str], None]) -> dict[str, Ngrams]:
    counted: dict[str, Ngrams] = {}
    for tag, path in options.corpora:
        number = 0
        for language, text in sources.texts(path, options.text_column, options.language_column, tag):
            counted.setdefault(language, Ngrams(MAX_PAIRS)).add(text)
            number += 1
        say(f"{path}: {number:,} texts")
    return counted


def _about(
    found: list[tuple[str, Path | None, Found]], taken: Mapping[str, int], options: BuildOptions
) -> list[dict[str, Any]]:
    about: dict[str, dict[str, Any]] = {}
    if taken.get("numbers"):
        about["numbers"] = {"name": "numbers", "entries": taken["numbers"], "licence": "none needed"}
    for name, path, each in found:
        entry = about.setdefault(name, {"name": name, "entries": taken.get(name, 0)})
        entry["languages"] = sorted({*entry.get("languages", []), each.language})
        licence = options.licences.get(path.name if path else name) or each.licence
        entry["licence"] = licence or entry.get("licence") or "not stated"
        if each.version:
            entry["version"] = each.version
        if path is not None and path.is_file():
            entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return list(about.values())


def _plain(options: BuildOptions) -> dict[str, Any]:
    """The options as they are recorded: files by their names, not by where they lie."""
    fields = options.model_dump(mode="json", exclude={"licences"})
    named = {name: [[tag, Path(path).name] for tag, path in fields[name]] for name in ("wordnets", "lists", "corpora")}
    return fields | named | {"page_views": [Path(path).name for path in fields["page_views"]]}
