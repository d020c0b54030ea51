"""Caption statistics: length, make-up, repetition and script of a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.scripts import LETTERS_PER_WORD, count_scripts, script_of
from curation.signal import TextSignal


def num_words(text: str) -> int:
    """Number of words between white space; a piece in a script without spaces counts by its letters.

    There one word is taken for every two Han or kana letters and for every four Thai, Lao, Khmer, Myanmar or Tibetan
    ones (`curation.scripts.LETTERS_PER_WORD`), rounded up: an estimate, not a segmentation.
    """
    pieces = text.split()
    if text.isascii():
        return len(pieces)
    return sum(_num_words_of_piece(piece) for piece in pieces)


def _num_words_of_piece(piece: str) -> int:
    if piece.isascii():
        return 1
    words = sum(1 / LETTERS_PER_WORD.get(script_of(char) or "", math.inf) for char in piece)
    return max(1, math.ceil(words - 1e-9))


class CaptionStatistics(TextSignal):
    """Counts and shares that tell a caption from a label, a list or noise.

    Columns: `num_characters` (code points, 1 or more); `num_words` (0 or more; see `num_words`); `share_letters`
    (letters and their marks among the characters, 0-1); `share_digits` (0-1); `token_repetition` (1 - distinct / all
    pieces between white space, case folded: 0 where none repeats, near 1 where one is repeated without end); `script`
    (name of the script that most letters belong to, ties by name; null without letters).
    Unit: as said. Model: none. Source: the counts behind the text rules of CC3M, ALIGN and LAION; scripts from the
    Unicode character database.
    """

    version: ClassVar[int] = 1

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "num_characters": pa.int32(),
                "num_words": pa.int32(),
                "share_letters": pa.float32(),
                "share_digits": pa.float32(),
                "token_repetition": pa.float32(),
                "script": pa.string(),
            }
        )

    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        rows = [_statistics(text) if text else (None,) * 6 for text in texts]
        return {name: [row[k] for row in rows] for k, name in enumerate(self.writes().names)}


def _statistics(text: str) -> tuple[int, int, float, float, float, str | None]:
    scripts = count_scripts(text)
    num_letters = sum(scripts.values())
    tokens = text.casefold().split()
    named = {script: number for script, number in scripts.items() if script not in ("Common", "Inherited") and number}
    return (
        len(text),
        num_words(text),
        num_letters / len(text),
        sum(map(str.isdigit, text)) / len(text),
        1 - len(set(tokens)) / len(tokens) if tokens else 0.0,
        min(named, key=lambda script: (-named[script], script)) if named else None,
    )
