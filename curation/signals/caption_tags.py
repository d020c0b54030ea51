"""Caption tags: which things a caption names, how they stand to each other, and the caption with these exchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import ClassVar, Literal

import pyarrow as pa

from curation.caption_parser import MAX_CHARACTERS, REVISION, negatives, parse
from curation.entry_forms import Mode
from curation.metadata_lists import load_metadata, metadata_digest
from curation.signal import ColumnSignal, Level, as_table
from curation.signals.language import primary
from curation.signals.metadata_entries import Matchers

RELATION = pa.struct([("subject", pa.string()), ("relation", pa.string()), ("object", pa.string())])
NEGATIVE = pa.struct([("text", pa.string()), ("kind", pa.string())])
PARSED = "en"
"""The language that `curation.caption_parser` parses."""
_MODE: Mode = "fixed"
_WITHOUT_SPACES = 0x0E00
"""From here on Unicode has Thai, Lao, Khmer, Chinese and Japanese (and Korean, whose words take endings)."""


class CaptionTags(ColumnSignal):
    """Tags of a caption: in English by a parser of noun phrases, in other languages the metadata entries that it holds.

    Columns: `tags`, the things named, each once, in lower case and in the singular, in the order of the caption (of
    entries: in that of the list; numbers, and entries that are part of a longer one there, are no tags); `tags_by`,
    `parser` or `entries`; of what the parser parsed also `relations`, {subject, relation, object}, and
    `caption_negatives`, at most 8 of {text, kind}: the caption with the two things of a relation exchanged (`roles`) or
    their attributes (`attributes`), which has the same words and is no longer true. All null without a text, for texts
    of more than 10,000 characters, and in languages that have neither parser nor entries (the report `tags` counts them
    for each language). Unit: none. Model: none; the parser's revision and the digest of the list are in the key.
    Precision on 100 hand-checked captions is in curation/README.md. Source: tags and triples from captions, Tag2Text,
    arXiv 2303.05657, and Structure-CLIP, arXiv 2305.06152 (both by parsers for English); the rules are this project's.
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"
    not_in_key: ClassVar[frozenset[str]] = frozenset({"entries"})

    entries: str = "worldwide"
    """The list for languages without a parser, as of `MetadataEntries`."""
    language: Literal["language", "language_claimed"] = "language_claimed"
    """Column that says which language a text is in, as of `MetadataEntries`."""

    def key_extras(self) -> dict[str, object]:
        return {"entries": metadata_digest(self.entries), "parser": REVISION}

    def reads(self) -> tuple[str, ...]:
        return ("text_clean", self.language)

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "tags": pa.list_(pa.string()),
                "tags_by": pa.string(),
                "relations": pa.list_(RELATION),
                "caption_negatives": pa.list_(NEGATIVE),
            }
        )

    def compute(self, rows: pa.Table) -> pa.Table:
        texts, languages = rows.column("text_clean").to_pylist(), rows.column(self.language).to_pylist()
        columns: dict[str, list[object]] = {name: [None] * len(texts) for name in self.writes().names}
        others = []
        for row, (text, language) in enumerate(zip(texts, languages, strict=True)):
            if text is None:
                continue
            if len(text) > MAX_CHARACTERS:
                continue
            if language is None or primary(language) != PARSED:
                others.append(row)
            else:
                parsed = parse(text)
                columns["tags"][row], columns["tags_by"][row] = parsed.tags(), "parser"
                columns["relations"][row] = [
                    {"subject": _named(each.subject.tags()), "relation": each.relation, "object": _named(thing)}
                    for each in parsed.relations
                    if each.subject.tags() and (thing := each.object.tags())
                ]
                columns["caption_negatives"][row] = [
                    {"text": made, "kind": kind} for kind, made in negatives(text, parsed)
                ]
        for row, tags in zip(
            others, self._listed([texts[row] for row in others], [languages[row] for row in others]), strict=True
        ):
            if tags is not None:
                columns["tags"][row], columns["tags_by"][row] = tags, "entries"
        return as_table({**columns}, self.writes())

    def _listed(self, texts: list[str], languages: list[str | None]) -> list[list[str] | None]:
        """For each text the entries of its language that it holds; None where the list has no such language."""
        matchers = Matchers.of(self.entries, _MODE, metadata_digest(self.entries))
        names = load_metadata(self.entries).table.column("entry")
        found: list[list[str] | None] = [None] * len(texts)
        listed = matchers.listed(languages)
        for place, language in enumerate(matchers.languages):
            chosen = [row for row, own in enumerate(listed.tolist()) if own == place]
            if chosen:
                held = matchers.matcher(language).match(pa.array([texts[row] for row in chosen], pa.string()))
                for row, ids in zip(chosen, held.to_pylist(), strict=True):
                    found[row] = _longest(names[entry].as_py() for entry in ids)
        return found


def _named(tags: tuple[str, ...]) -> str:
    return tags[0]


def _longest(entries: Iterable[str]) -> list[str]:
    """Entries that are not part of a longer one among them, without numbers."""
    kept = [entry for entry in entries if not entry.isdigit()]
    parts = {part for entry in kept for part in _parts(entry)}
    return [entry for entry in kept if entry not in parts]


def _parts(entry: str) -> Iterator[str]:
    """What stands in an entry, but for itself: its runs of words; in scripts without spaces, of letters."""
    has_spaces = ord(entry[0]) < _WITHOUT_SPACES or " " in entry
    pieces = entry.split(" ") if has_spaces else list(entry)
    for begin, end in combinations(range(len(pieces) + 1), 2):
        if end - begin < len(pieces):
            yield (" " if has_spaces else "").join(pieces[begin:end])
