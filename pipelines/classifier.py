"""Classifier: train a text classifier on two selections of a store's texts, made by SQL."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.table import replace_text, replacing
from curation.text_classifier import ClassifierError, ClassifierSettings, train_classifier
from pipelines import database
from pipelines.row_wise import without_nan
from pipelines.sources import SourceError
from pipelines.store import Store
from pipelines.summary import ask
from pipelines.views import open_store

FORMAT = "tamis.text_classifier/1"


def train_on_store(
    store: Store, positive: str, negative: str, output: Path, settings: ClassifierSettings
) -> dict[str, Any]:
    """Train on what two queries select and write the model to `output` and what is known of it to `output`.json.

    A query is a predicate over the view `candidates`, or a SELECT with a column `text` or one column only. Raises
    SourceError where a selection gives no texts or too few.
    """
    if output.is_dir():
        raise SourceError(f"{output} is a folder: name the model's file")
    texts = {}
    for name, query in (("positive", positive), ("negative", negative)):
        try:
            texts[name] = selected(store, query)
        except SourceError as error:
            raise SourceError(f"the {name} selection: {error}") from error
    try:
        trained = train_classifier(texts["positive"], texts["negative"], settings)
    except ClassifierError as error:
        raise SourceError(str(error)) from error
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output.absolute()) as temporary:
        temporary.write_bytes(trained.data)
    card = {
        "format": FORMAT,
        "sha256": hashlib.sha256(trained.data).hexdigest(),
        "size_bytes": len(trained.data),
        "positive": positive,
        "negative": negative,
        "settings": settings.key_material()["fields"],
        **trained.figures,
    }
    replace_text(output.with_name(output.name + ".json"), json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return card


def selected(store: Store, query: str) -> list[str]:
    """The texts that `query` selects, nulls left out. Raises SourceError where it selects no column of texts."""
    con = open_store(store)
    columns = con.table("candidates").columns
    con.close()
    asked = query
    if not re.match(r"\s*(select|with|from)\b", query, re.IGNORECASE):
        text = "text_clean" if "text_clean" in columns else "text"
        predicate = query
        with suppress(ValueError):  # what is no expression is for the database to tell
            predicate = without_nan(query)
        asked = f"select {text} as text from candidates where (\n{predicate}\n)"
    try:
        table = ask(store, asked)
    except database.SqlError as error:
        known = ", ".join(sorted(columns))
        raise SourceError(f"{query}: {database.said(error, columns)} (columns of candidates: {known})") from error
    if "text" not in table.column_names and table.num_columns != 1:
        raise SourceError(
            f"the query gives the columns {', '.join(table.column_names)}, and none is called text: {query}"
        )
    column = table.column("text" if "text" in table.column_names else 0)
    if not any(check(column.type) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise SourceError(f"the query gives {column.type}, not texts: {query}")
    return [text for text in column.to_pylist() if text is not None]
