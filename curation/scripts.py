"""Scripts of characters: Latin, Cyrillic, Han, ... read from the names of the Unicode character database."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

# Letters a word has on average in scripts that write no spaces. Rough figures that only serve to estimate lengths:
# Chinese and Japanese words have about two characters, the others' about four or five letters.
LETTERS_PER_WORD = {
    "Han": 2, "Hiragana": 2, "Katakana": 2, "Bopomofo": 2, "Yi": 2,
    "Thai": 4, "Lao": 4, "Khmer": 4, "Myanmar": 4, "Tibetan": 4,
}  # fmt: skip

# First words of character names that are not the name of a script.
_FIRST_WORDS = {
    "CJK": "Han", "IDEOGRAPHIC": "Han", "HALFWIDTH": "", "FULLWIDTH": "", "MODIFIER": "", "MATHEMATICAL": "Common",
    "CANADIAN": "Canadian_Aboriginal", "OL": "Ol_Chiki", "TAI": "Tai_Le", "NEW": "New_Tai_Lue", "NKO": "Nko",
    "MEETEI": "Meetei_Mayek", "PHAGS-PA": "Phags_Pa", "SYLOTI": "Syloti_Nagri",
    "MICRO": "Greek", "OHM": "Greek", "KELVIN": "Latin",
    "ANGSTROM": "Latin", "FEMININE": "Latin", "MASCULINE": "Latin", "COMBINING": "Inherited", "VARIATION": "Inherited",
    "KATAKANA-HIRAGANA": "Common", "OLD": "", "DOUBLE-STRUCK": "Common", "SCRIPT": "Common", "BLACK-LETTER": "Common",
}  # fmt: skip


@lru_cache(maxsize=1 << 16)
def script_of(char: str) -> str | None:
    """Name of the script of a letter or mark ("Latin", "Han"), "Common" for those of none; None for anything else.

    Follows the names of the characters, which agree with the Unicode property Script but for rare letters.
    """
    if unicodedata.category(char)[0] not in "LM":
        return None
    words = unicodedata.name(char, "").replace("SIGN ", "").split()
    while words and _FIRST_WORDS.get(words[0]) == "":
        words = words[1:]
    if not words:
        return "Common"
    return _FIRST_WORDS.get(words[0], words[0].capitalize())


def count_scripts(text: str) -> Counter[str]:
    """Script -> number of its letters and marks in `text`."""
    if text.isascii():
        return Counter(Latin=sum(map(str.isalpha, text)))
    return Counter(script for script in map(script_of, text) if script is not None)
