"""Repetition: texts that say the same thing again and again, in scripts with and without spaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.entry_forms import normalised
from curation.signal import TextSignal

CHARACTERS = 5
"""Length of the pieces of text that are compared."""


class Repetition(TextSignal):
    """How much of a text is a repetition of itself.

    Columns: `character_repetition` (1 - distinct / all pieces of five characters, case folded, 0 to below 1: 0 where
    none occurs twice or the text is shorter); `longest_run`, int32 (1 or more; the longest run of one character other
    than white space: 10 in "soooooooooo"); `top_token_share` (how many of the tokens are the most frequent one, 0 to 1;
    tokens as `curation.entry_forms.normalised` cuts them, each Han or kana letter is one; null without tokens). Null
    without a text or in an empty one. Unit: shares; characters. Model: none. Source: the repetition rules of Gopher,
    arXiv 2112.11446, table A1, and data-juicer's character_repetition_filter, for texts as short as captions.
    """

    version: ClassVar[int] = 1

    def writes(self) -> pa.Schema:
        return pa.schema(
            {"character_repetition": pa.float32(), "longest_run": pa.int32(), "top_token_share": pa.float32()}
        )

    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        rows = [_repetition(text) if text else (None, None, None) for text in texts]
        return {name: [row[k] for row in rows] for k, name in enumerate(self.writes().names)}


def _repetition(text: str) -> tuple[float, int | None, float | None]:
    folded = text.casefold()
    num_pieces = len(folded) - CHARACTERS + 1
    distinct = {folded[i : i + CHARACTERS] for i in range(num_pieces)}
    runs = (sum(1 for _ in run) for char, run in groupby(folded) if not char.isspace())
    tokens = Counter(normalised(text).split())
    return (
        1 - len(distinct) / num_pieces if num_pieces > 0 else 0.0,
        max(runs, default=None),
        max(tokens.values()) / tokens.total() if tokens else None,
    )
