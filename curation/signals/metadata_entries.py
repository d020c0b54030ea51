"""Metadata entries: which entries of a list a caption holds; what MetaCLIP balances by."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.array_file import cache_folder
from curation.entries import TABLE_VERSION, EntryMatcher, shared_matcher
from curation.entry_forms import Mode
from curation.metadata_lists import ANY_LANGUAGE, Metadata, load_metadata, metadata_digest
from curation.signal import ColumnSignal, Level, as_table
from curation.signals.language import primary

# MetaCLIP 2 merges the varieties of Chinese, whose captions are mostly written alike.
_LISTED_AS = {"yue": "zh", "lzh": "zh", "wuu": "zh"}


class MetadataEntries(ColumnSignal):
    """The metadata entries that occur in the text, of the list of its language.

    Columns: `entry_ids`, the sorted distinct ids (rows of the list, 0 or more) of all entries that the text matches, an
    empty list where none does; `entry_language`, the language (primary subtag) whose entries they are, `und` for those
    of a list without languages. Both are null without a text, and where the list has no entries for its language: of
    such a text the metadata says nothing. Unit: none. Model: none; the digest of the list is in the key.
    Source: MetaCLIP, arXiv 2309.16671, section 3 (`strict`: its matcher exactly, faults included), and MetaCLIP 2
    (`strict2`, likewise: one list for each language); `fixed` is this project's mending of both
    (`curation.entry_forms`).
    """

    version: ClassVar[int] = 2
    level: ClassVar[Level] = "text"
    not_in_key: ClassVar[frozenset[str]] = frozenset({"entries"})

    entries: str = "worldwide"
    """Path of a list (see `curation.metadata_lists.load_metadata`; `tamis metadata build` makes one), or the name of
    one that comes with the package: "worldwide", 53 languages; "entries_en", lemmas of WordNet 3.0, for texts of any
    language."""
    mode: Mode = "fixed"
    """`fixed` folds case and width and takes all punctuation for boundaries; `strict` and `strict2` are the published
    matchers of MetaCLIP 1 and 2."""
    language: Literal["language", "language_claimed"] = "language_claimed"
    """Column that says which language a text is in: `language` is the resolved one (needs the signal
    `FastTextLanguage`), `language_claimed` that of the link table."""

    def key_extras(self) -> dict[str, object]:
        return {"entries": metadata_digest(self.entries)}

    def reads(self) -> tuple[str, ...]:
        return ("text_clean", self.language)

    def writes(self) -> pa.Schema:
        return pa.schema({"entry_ids": pa.list_(pa.int32()), "entry_language": pa.string()})

    def legend(self) -> pa.Table:
        """What the ids stand for."""
        table = load_metadata(self.entries).table
        return table.add_column(0, "entry_id", pa.array(range(table.num_rows), pa.int32()))

    def compute(self, rows: pa.Table) -> pa.Table:
        texts = rows.column("text_clean").combine_chunks()
        matchers = Matchers.of(self.entries, self.mode, metadata_digest(self.entries))
        listed = matchers.listed(rows.column(self.language).to_pylist())
        listed = np.where(texts.is_valid().to_numpy(zero_copy_only=False), listed, -1)
        found, order = [pa.array([None] * int((listed < 0).sum()), pa.list_(pa.int32()))], [np.flatnonzero(listed < 0)]
        for place, language in enumerate(matchers.languages):
            chosen = np.flatnonzero(listed == place)
            if chosen.size:
                found.append(matchers.matcher(language).match(texts.take(pa.array(chosen))))
                order.append(chosen)
        back = np.argsort(np.concatenate(order), kind="stable")
        names = pa.array([*matchers.languages, None], pa.string()).take(
            pa.array(np.where(listed < 0, len(matchers.languages), listed))
        )
        return as_table(
            {"entry_ids": pa.concat_arrays(found).take(pa.array(back)), "entry_language": names}, self.writes()
        )


class Matchers:
    """The matchers of a list, one for each language, made or mapped into memory as they are needed."""

    def __init__(self, name: str, mode: Mode, digest: str) -> None:
        self._name, self._mode, self._digest = name, mode, digest
        self.ranges = load_metadata(name).languages
        self.languages = list(self.ranges)
        self._places = {language: place for place, language in enumerate(self.languages)}
        self._made: dict[str, EntryMatcher] = {}

    @staticmethod
    @lru_cache(maxsize=4)
    def of(name: str, mode: Mode, digest: str) -> Matchers:
        """Once per process; `digest` is `metadata_digest(name)`."""
        return Matchers(name, mode, digest)

    def listed(self, languages: list[str | None]) -> np.ndarray:
        """For each language tag the place of the list to take, -1 where there is none."""
        known: dict[str | None, int] = {tag: self._place(tag) for tag in set(languages)}
        return np.fromiter((known[tag] for tag in languages), np.int64, len(languages))

    def _place(self, tag: str | None) -> int:
        language = primary(tag) if tag else ANY_LANGUAGE
        candidates = (language, _LISTED_AS.get(language, ANY_LANGUAGE), ANY_LANGUAGE)
        return next((self._places[name] for name in candidates if name in self._places), -1)

    def matcher(self, language: str) -> EntryMatcher:
        """The matcher of one language."""
        if language not in self._made:
            cached = cache_folder()
            folder: Path | None = cached / "matchers" if cached else None
            name = f"{self._digest[:24]}-{language}-{self._mode}-{TABLE_VERSION}.arrays"
            first = self.ranges[language].start
            self._made[language] = shared_matcher(folder, name, self._mode, first, lambda: self._list.entries(language))
        return self._made[language]

    @cached_property
    def _list(self) -> Metadata:
        """Only loaded where a matcher has to be built."""
        return load_metadata(self._name)
