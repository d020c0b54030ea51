"""Metadata entries: which entries of a list a caption holds; what MetaCLIP balances by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.entries import Mode, entries_digest, matcher
from curation.signal import TextSignal


class MetadataEntries(TextSignal):
    """The metadata entries that occur in the text.

    Column: `entry_ids`, the sorted distinct ids (positions in the list, 0 or more) of all entries that the text
    matches; an empty list where none does, null without a text. Unit: none. Model: none; the digest of the list is in
    the key. Source: MetaCLIP, arXiv 2309.16671, section 3 (`strict`: its matcher exactly, faults included); `fixed`
    is this project's mending of it (see `curation.entries.normalised`).
    """

    version: ClassVar[int] = 1
    not_in_key: ClassVar[frozenset[str]] = frozenset({"entries"})

    entries: str = "entries_en"
    """Path of a list (one entry a line or a JSON array, `.gz` or not), or the name of one that comes with the package:
    "entries_en", lemmas of WordNet 3.0."""
    mode: Mode = "fixed"
    """`fixed` folds case and width and takes all punctuation for boundaries; `strict` is the published matcher."""

    def key_extras(self) -> dict[str, object]:
        return {"entries": entries_digest(self.entries)}

    def writes(self) -> pa.Schema:
        return pa.schema({"entry_ids": pa.list_(pa.int32())})

    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        found = matcher(self.entries, self.mode, entries_digest(self.entries)).match(texts)
        return {"entry_ids": found}
