"""Shearing: a written caption cut to the length of the real one beside it, in the tokens of a recorded tokenizer.

Source: MLLMs-Augmented Visual-Language Representation Learning, arXiv 2311.18765 (text shearing).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

from curation.shingles import UNSPACED

Tokenizer = Literal["words", "clip"]
"""words: what stands between white space; each character of a script without spaces is one. clip: CLIP's byte pairs,
arXiv 2103.00020, as open_clip makes them, without the marks of beginning and end."""
_ALONE = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED)
_WORDS = re.compile(f"[{_ALONE}]|[^\\s{_ALONE}]+")


@lru_cache(maxsize=2)
def counter(tokenizer: Tokenizer) -> Callable[[str], int]:
    """Number of tokens of a text."""
    if tokenizer == "words":
        return lambda text: len(_WORDS.findall(text))
    from open_clip.tokenizer import SimpleTokenizer

    encode = SimpleTokenizer().encode
    return lambda text: len(encode(text))


def sheared(text: str, most: int, tokenizer: Tokenizer) -> str:
    """The longest beginning of `text` that ends with a word and has at most `most` tokens; where not even the first
    word has so few, the longest at all. It may be empty."""
    count = counter(tokenizer)
    if count(text) <= most:
        return text
    words = [found.end() for found in _WORDS.finditer(text)]
    return _longest(text, words, most, count) or _longest(text, range(1, len(text)), most, count)


def _longest(text: str, ends: Sequence[int], most: int, count: Callable[[str], int]) -> str:
    """The longest text[:end] of at most `most` tokens. ends: rising.

    Pairs of bytes may join as a text goes on, so a longer one may have a token less: from where bisection ends it goes
    down until it fits.
    """
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        if count(text[: ends[middle]]) <= most:
            low = middle + 1
        else:
            high = middle
    while low and count(text[: ends[low - 1]].strip()) > most:
        low -= 1
    return text[: ends[low - 1]].strip() if low else ""
