"""The datacard that MetaCLIP publishes: how many texts hold each metadata entry, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from curation.table import replace_text
from pipelines import database
from pipelines.store import Store, StoreError
from pipelines.views import open_store

Which = Literal["texts", "passed", "kept"]
"""Of the texts that balancing decides about: all, those that pass every other rule (what it counts), those kept."""


def entry_counts(store: Store, which: Which = "passed") -> dict[str, dict[str, int]]:
    """Language -> entry -> number of texts, above zero; by language, then by falling count, then by id.

    Raises StoreError where the store has no matched entries or does not say what their ids stand for.
    """
    con = open_store(store, locked=True)
    rows = database.rows(
        con,
        f"select language, entry, {database.quoted(which)} as texts from ({database.query('report/entry_counts')}\n) "
        f"where {database.quoted(which)} > 0 order by language, texts desc, entry_id",
    )
    con.close()
    if not rows:
        raise StoreError(
            f"{store.root} has no counts of metadata entries: run a recipe with the signal "
            "curation.signals.metadata_entries.MetadataEntries first"
        )
    if any(row["entry"] is None for row in rows):
        raise StoreError(f"{store.root} does not say what its entry ids stand for: run its recipe again")
    card: dict[str, dict[str, int]] = {}
    for row in rows:
        card.setdefault(row["language"], {})[row["entry"]] = row["texts"]
    return card


def write_entry_counts(store: Store, output: Path, which: Which = "passed", language: str | None = None) -> int:
    """Write the datacard: for one language entry -> count, which is MetaCLIP's form; else one such object a language.

    Returns the number of entries. Raises StoreError where no text of the language matched an entry.
    """
    card = entry_counts(store, which)
    if language is not None and language not in card:
        raise StoreError(f"no text of the language {language!r} holds an entry; there are: {', '.join(card)}")
    content = card if language is None else card[language]
    replace_text(output.absolute(), json.dumps(content, ensure_ascii=False, indent=0) + "\n")
    return sum(map(len, card.values())) if language is None else len(card[language])
