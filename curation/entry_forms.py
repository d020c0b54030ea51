"""How texts and metadata entries are written before they are compared, in each mode.

strict   MetaCLIP 1 as published (arXiv 2309.16671): a text matches an entry if `padded(entry)` is a substring of
         `spaced(text)`. Faults included: case counts, entries with one of seven marks never match, quotes, brackets
         and slashes are no boundaries.
strict2  MetaCLIP 2 as published: the same, but the entry gets its space only on a side whose outer character is
         neither of a script without spaces nor punctuation (`padded2`). Kana and Hangul are not among those scripts.
fixed    This project's mending of both: `normalised(entry)`, as a run of whole tokens, in `normalised(text)`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from typing import Literal

Mode = Literal["strict", "strict2", "fixed"]

_SPACED = re.compile(r"([,.;:?!`])")
_SPACES = str.maketrans("\t\n\r", "   ")


def spaced(text: str) -> str:
    """`text` between two spaces, each of `, . ; : ? ! `` ` `` between spaces, tabs and line ends as spaces (strict)."""
    return _SPACED.sub(r" \1 ", f" {text} ").translate(_SPACES)


def padded(entry: str) -> str:
    """`entry` between two spaces."""
    return f" {entry} "


# MetaCLIP 2, section "Metadata matching", as released: CJK ideographs in seven blocks, compatibility ideographs,
# radicals and description characters, Thai, Lao, Tibetan, Burmese, Khmer; ASCII and 25 full-width punctuation marks.
_UNPADDED = re.compile(
    "[\u2e80-\u2fdf\u2ff0-\u2fff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ebef"
    f"\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff{re.escape(string.punctuation)}"
    "，。、；：？！“”‘’（）【】《》〈〉「」『』～—]"
)


def padded2(entry: str) -> str:
    """`entry` with a space before and after it, but not beside an outer character that needs none (strict2)."""
    left = "" if _UNPADDED.match(entry[:1]) else " "
    return left + entry + ("" if _UNPADDED.match(entry[-1:]) else " ")


# Scripts that are written without spaces between words: letters (with the digits and iteration marks among them) that
# are tokens of their own. Blocks of Unicode 16; kana with their extensions, Bopomofo, Yi.
_NO_SPACES = (
    "\u3005-\u3007\u3021-\u3029\u3040-\u30fa\u30fc-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua000-\ua4cf\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U000323af"  # Han, kana, Bopomofo, Yi
    "\u0e01-\u0e5b\u0e81-\u0edf\u0f00-\u0fff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9fe\u1780-\u17dc"  # Thai to Khmer
)
# A letter, the marks that stand on it, and, after a sign that stacks consonants (Myanmar virama, Khmer coeng, and the
# Thai and Lao ones of Pali), the letter below it: what a reader sees as one character.
_STACKERS = "\u1039\u17d2\u0e3a\u0eba"
_MARKS = "\u0300-\u036f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f18\u0f19\u0f35\u0f37\u0f39"
_MARKS += "\u0f3e\u0f3f\u0f71-\u0f84\u0f86\u0f87\u0f8d-\u0fbc\u102b-\u103e\u1056-\u1059\u105e-\u1060\u1062-\u1064"
_MARKS += "\u1067-\u106d\u1071-\u1074\u1082-\u108d\u108f\u109a-\u109d\uaa7b-\uaa7d\ua9e5\u17b4-\u17d3\u17dd"
_MARKS += "\u3099\u309a\u302a-\u302f\ufe00-\ufe0f"
CLUSTER = re.compile(f"[{_NO_SPACES}][{_MARKS}]*(?:(?<=[{_STACKERS}])[{_NO_SPACES}][{_MARKS}]*)*")
_HANGUL_WORD = re.compile("[\uac00-\ud7a3]+")
_WORD_BEGIN = "\ue000"  # a private character: begins a Hangul word
_ASCII_SYMBOLS = re.compile(r"([!-/:-@\[-`{-~])")
# Not seen: soft hyphen, variation selectors of emoji, byte order mark, word joiner; zero-width space, a boundary.
_INVISIBLE: dict[int, str] = {0xAD: "", 0xFE0E: "", 0xFE0F: "", 0xFEFF: "", 0x2060: "", 0x200B: " "}


class _Boundaries(dict[int, str]):
    """Character -> itself, or between two spaces where it is a token of its own; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        alone = unicodedata.category(char)[0] in "PS" or "\uac00" <= char <= "\ud7a3"
        self[code] = f" {char} " if alone else char
        return self[code]


_BOUNDARIES = _Boundaries(_INVISIBLE)


def normalised(text: str) -> str:
    """The form in which `fixed` compares texts and entries: tokens between single spaces.

    NFKC and case folding; every run of Unicode white space is one space; punctuation and symbols are tokens of their
    own; so is each letter, with the marks on it, of a script that is written without spaces (Han, kana, Thai, Lao,
    Khmer, Myanmar, Tibetan, ...). A Hangul word becomes a mark for its beginning and its syllables, so that an entry
    matches at the beginning of a word whatever particle follows.
    """
    if text.isascii():
        return " ".join(_ASCII_SYMBOLS.sub(r" \1 ", text.lower()).split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    marked = _HANGUL_WORD.sub(f" {_WORD_BEGIN} \\g<0>", folded)
    return " ".join(CLUSTER.sub(r" \g<0> ", marked.translate(_BOUNDARIES)).split())


def is_useful(form: str) -> bool:
    """Whether a normalised entry can be told from noise: not empty, not a single kana, which occurs in every text."""
    letters = form.replace(" ", "").replace(_WORD_BEGIN, "")
    return bool(letters) and not (len(letters) == 1 and "\u3040" <= letters <= "\u30ff")
