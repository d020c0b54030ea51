"""All samples of a version with all of their texts, in memory: what evaluation matches against each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pretrain.config import Clause
from pretrain.keyed import U64, key
from pretrain.source import meets
from pretrain.version import Version


@dataclass(frozen=True)
class Text:
    """One caption. languages: all in which it is the caption of this sample; empty if none is known.

    row: its place among all texts of the version.
    """

    text: str
    languages: tuple[str, ...]
    row: int = 0

    def only_in(self, languages: frozenset[str]) -> bool:
        """Whether its languages are known and all among these."""
        return bool(self.languages) and languages.issuperset(self.languages)


@dataclass(frozen=True)
class Samples:
    """Samples of a version that qualify. rows: their rows in the version; hashes: uint64 of each sample_uid."""

    uids: list[str]
    rows: np.ndarray
    hashes: U64
    texts: list[list[Text]]

    def __len__(self) -> int:
        return len(self.uids)

    def subset(self, keep: np.ndarray) -> Samples:
        """Those where `keep` (bool for each) holds."""
        chosen = np.flatnonzero(keep)
        return Samples(
            [self.uids[i] for i in chosen], self.rows[chosen], self.hashes[chosen], [self.texts[i] for i in chosen]
        )


def read_samples(version: Version, where: tuple[Clause, ...] = ()) -> Samples:
    """All samples of a version that meet the conditions, with all of their texts.

    Raises ConfigError where a condition names a column that the version does not have, or no sample meets them.
    """
    keep = meets(version, where)
    table = version.read(["sample_uid", "texts"])
    chosen = table.filter(pa.array(keep))
    uids = chosen.column("sample_uid").to_pylist()
    hashes = np.array([key(uid) for uid in uids], dtype=np.uint64)
    counts = np.array(pc.fill_null(pc.list_value_length(table.column("texts")), 0), dtype=np.int64)
    first_rows = (np.cumsum(counts) - counts)[keep]
    texts = [
        [_text(entry, int(first) + place) for place, entry in enumerate(entries or [])]
        for entries, first in zip(chosen.column("texts").to_pylist(), first_rows, strict=True)
    ]
    return Samples(uids, np.flatnonzero(keep), hashes, texts)


def _text(entry: dict[str, object], row: int) -> Text:
    languages = entry.get("languages") or ([entry["language"]] if entry.get("language") else [])
    assert isinstance(languages, list)
    return Text(str(entry["text"]), tuple(str(language) for language in languages if language is not None), row)
