"""Templates: texts from tags of the link tables, or from the metadata entries that a sample's own texts hold."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

import pyarrow as pa
from pydantic import Field, model_validator

from curation.generator import Generator, Sample, Written
from curation.metadata_lists import ANY_LANGUAGE
from curation.signals.keyed_draw import keyed_draw
from curation.signals.language import primary
from curation.signals.metadata_entries import MetadataEntries
from curation.signals.text_hygiene import TextHygiene

TAGS = "tags"
"""What a template holds in braces: the tags, with commas between."""


class Templates(Generator):
    """One text for each sample and language: a template with the sample's tags in it. Needs no model.

    Tags are the values of `columns` (one tag each, or a JSON list of them), the same for all languages; or, with
    `entries`, the entries of a metadata list that the sample's texts of that language hold: the longest first, none
    that stands within another. Each tag once, at most `most` of them. Which of several templates is taken is a keyed
    hash of the sample. A text's parent is the first text of its language that gave a tag; of columns, the first of its
    language (a picture without a caption of which the columns say something gets a text without a parent). Lists of
    entries hold function words, too: of short captions `most: 1` takes the longest entry alone.
    Model: none. Source: templates of class names, arXiv 2103.00020, section 3.1.4; tags as texts, Tag2Text, arXiv
    2303.05657.
    """

    version: ClassVar[int] = 2  # tags of pictures without a caption, too

    templates: dict[str, Annotated[list[str], Field(min_length=1)]] = {"en": ["a picture of {tags}"]}
    """Language (BCP 47 primary subtag) -> templates, each with `{tags}` in it."""
    columns: list[str] = []
    """Columns of the link tables (`source.columns.extra`) that hold tags."""
    entries: MetadataEntries | None = None
    """Fields of the signal `MetadataEntries`: tags are what it finds. In place of `columns`."""
    most: int = Field(default=3, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _one_source_of_tags(self) -> Self:
        if bool(self.columns) == (self.entries is not None):
            raise ValueError(
                "tags come either from `columns` of the link tables or from `entries: {}`; "
                + ("both are given" if self.columns else "neither is given")
            )
        for language, several in self.templates.items():
            for template in several:
                if _fields(template) != [TAGS] or f"{{{TAGS}}}" not in template:
                    raise ValueError(f"templates.{language}: {template!r} must have {{{TAGS}}} in it, once")
        if not self.templates:
            raise ValueError("templates: there is none")
        return self

    def reads(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def write(self, samples: Sequence[Sample]) -> list[list[Written]]:
        found = self._of_entries(samples) if self.entries is not None else list(map(self._of_columns, samples))
        made: list[list[Written]] = []
        for sample, by_language in zip(samples, found, strict=True):
            made.append([])
            for language, (tags, parent) in by_language.items():
                several = self.templates[language]
                draw = keyed_draw(f"{sample.sample_uid} {language}", self.seed)
                template = several[int(draw * len(several))]
                text = template.replace(f"{{{TAGS}}}", ", ".join(tags[: self.most]))
                made[-1].append(Written(text, language, template, parent))
        return made

    def _of_columns(self, sample: Sample) -> dict[str, tuple[list[str], str | None]]:
        """Language -> tags and the parent."""
        values = [tag for row in sample.links or sample.texts for name in self.columns for tag in _tags(row.get(name))]
        tags = list(dict.fromkeys(values))
        return dict.fromkeys(self.templates, (tags, None)) if tags else {}

    def _of_entries(self, samples: Sequence[Sample]) -> list[dict[str, tuple[list[str], str | None]]]:
        assert self.entries is not None
        rows = [row for sample in samples for row in sample.texts]
        matched = self.entries.compute(_read_by_entries(rows)).to_pylist()
        found: list[dict[str, tuple[list[str], str | None]]] = []
        at = 0
        for sample in samples:
            spoken: dict[str, tuple[list[str], str | None]] = {}
            for row in sample.texts:
                ids = matched[at]["entry_ids"] or []
                language = _language_of(row, matched[at]["entry_language"])
                at += 1
                if ids and language in self.templates:
                    before, parent = spoken.get(language, ([], row["text_uid"]))
                    spoken[language] = ([*before, *(self._names[entry] for entry in ids)], parent)
            found.append({language: (_apart(tags), parent) for language, (tags, parent) in spoken.items()})
        return found

    @cached_property
    def _names(self) -> list[str]:
        """What the ids of entries stand for."""
        assert self.entries is not None
        names: list[str] = self.entries.legend().column("entry").to_pylist()
        return names


def _fields(template: str) -> list[str | None]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError:
        return []


def _tags(value: object) -> list[str]:
    """The tags in a value of a link table: one, or a JSON list of them."""
    text = str(value or "").strip()
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except ValueError:
            return [text]
        return [str(each).strip() for each in listed if each is not None and str(each).strip()]
    return [text] if text else []


def _read_by_entries(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The columns that `MetadataEntries` reads; a language is what the link table claims."""
    texts = pa.table({"text": pa.array([row["text"] for row in rows], pa.string())})
    languages = pa.array([row["language_claimed"] for row in rows], pa.string())
    clean = TextHygiene().compute(texts).column("text_clean")
    return pa.table({"text_clean": clean, "language": languages, "language_claimed": languages})


def _language_of(row: Mapping[str, Any], entry_language: str | None) -> str | None:
    if entry_language not in (None, ANY_LANGUAGE):
        return entry_language
    claimed = row["language_claimed"]
    return primary(claimed) if claimed else None


def _apart(tags: Sequence[str]) -> list[str]:
    """Each tag once, the longest first, none that stands within a longer one as whole words."""
    kept: list[str] = []
    for tag in sorted(dict.fromkeys(tags), key=lambda tag: (-len(tag), tag)):
        if not any(f" {tag} " in f" {other} " for other in kept):
            kept.append(tag)
    return kept
