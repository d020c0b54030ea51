"""Text hygiene: the repaired text that all other text signals read, and how much had to be repaired."""

from __future__ import annotations

import re
import unicodedata
from typing import ClassVar

import pyarrow as pa

from curation.signal import ColumnSignal, Level, as_table

# ECMA-48 control sequences as terminals print them: CSI (colours, cursor), OSC (titles, links), two-character escapes.
# An OSC ends before the next one begins, so that looking for its end costs no more than the text is long.
_ESCAPE_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\x9d]*(?:\x07|\x1b\\|\x9c)|\x1b[ -/]*[0-Z\\^_`-~]"
)
# Characters that no caption needs. White space (which C0 and C1 hold too) is left to _SPACES.
_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # C0 and C1 controls
    "\xad\u034f\u180e\u200b\u2060-\u2064\ufeff"  # soft hyphen, joiners and spaces of no width, byte order mark
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u206a-\u206f"  # bidirectional marks, embeddings, overrides, isolates
    "\ufff9-\ufffb\ufffd\ufffe\uffff"  # interlinear notes, replacement character, non-characters
    "]"
    # Tag characters spell out flags after U+1F3F4; anywhere else they hide text.
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]+"
)
_EMOJI = "\u2190-\u21ff\u2300-\u27bf\u2900-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff\U000e007f"
_JOINER = re.compile("([^\u200c\u200d]?)([\u200c\u200d])[\u200c\u200d]*(?=(.?))", re.DOTALL)
_IS_EMOJI = re.compile(f"[{_EMOJI}]")
_SPACES = re.compile(r"\s+")
# Printable ASCII with single spaces inside: nothing to do. Most captions of most crawls.
_CLEAN_ASCII = re.compile(r"[!-~]+(?: [!-~]+)*", re.ASCII)


# A text of these alone shows nothing: variation selectors, fillers for missing letters, the empty Braille cell.
_BLANK = re.compile("[\\s\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]*")
_VIRAMA = 9  # canonical combining class
MAX_MARKS = 30
"""Of combining marks in a row (UAX 15, stream-safe text): more show nothing, and to order them takes the square of
their number."""


def repair(text: str) -> tuple[str | None, int]:
    """The repaired text, None where nothing is left, and the number of characters removed or changed inside it."""
    if _CLEAN_ASCII.fullmatch(text):
        return text, 0
    shown = _INVISIBLE.sub("", _ESCAPE_SEQUENCES.sub("", text))
    shown = _JOINER.sub(_keep_meaningful_joiner, shown)
    num_repairs = len(text) - len(shown)
    if _BLANK.fullmatch(shown):
        return None, num_repairs + len("".join(shown.split()))
    composed = _ordered(shown)
    if composed != shown:
        moved = sum(a != b for a, b in zip(shown, composed, strict=False)) if len(shown) == len(composed) else 0
        num_repairs += max(1, moved, abs(len(shown) - len(composed)))
    stripped = composed.strip()
    num_repairs += sum(len(run) - (" " in run) for run in _SPACES.findall(stripped))
    return _SPACES.sub(" ", stripped) or None, num_repairs


def _composed(text: str) -> str:
    """The text in NFC, with at most `MAX_MARKS` combining marks in a row."""
    if unicodedata.is_normalized("NFC", text):  # marks that are in order already cost nothing
        return text
    kept, marks = [], 0
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= MAX_MARKS:
            kept.append(char)
    return unicodedata.normalize("NFC", "".join(kept))


def _ordered(text: str) -> str:
    """The same, without joiners that stand behind another mark once the marks are in order, and join nothing there."""
    composed = _composed(text)
    while (fewer := _JOINER.sub(_keep_meaningful_joiner, composed)) != composed:
        composed = _composed(fewer)
    return composed


_KINDS = {
    "control": re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"),
    "bidi": re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]"),
    "no_width": re.compile("[\xad\u034f\u180e\u200b\u2060-\u2064\ufeff]"),
    "no_character": re.compile("[\ufff9-\ufffd\ufffe\uffff]"),
}
"""Which characters of _INVISIBLE are what; those that are none of these are tag characters."""


def repair_kinds(text: str) -> list[str]:
    """What `repair` has to repair: sorted names out of escape_sequence, control, bidi, no_width, no_character, tag,
    joiner, composition and white_space (which spacing at the ends is not)."""
    if _CLEAN_ASCII.fullmatch(text):
        return []
    plain = _ESCAPE_SEQUENCES.sub("", text)
    hidden = "".join(_INVISIBLE.findall(plain))
    kinds = {kind for kind, characters in _KINDS.items() if characters.search(hidden)}
    kinds |= {"escape_sequence"} if plain != text else set()
    kinds |= {"tag"} if any(char >= "\U000e0000" for char in hidden) else set()
    shown = _INVISIBLE.sub("", plain)
    joined = _JOINER.sub(_keep_meaningful_joiner, shown)
    kinds |= {"joiner"} if joined != shown else set()
    if _BLANK.fullmatch(joined):
        return sorted(kinds | ({"no_width"} if joined.split() else set()))
    composed = _ordered(joined)
    kinds |= {"composition"} if composed != joined else set()
    kinds |= {"white_space"} if any(run != " " for run in _SPACES.findall(composed.strip())) else set()
    return sorted(kinds)


def _keep_meaningful_joiner(found: re.Match[str]) -> str:
    """U+200D between emoji builds one picture of several; between letters, and after a virama, both shape words.

    Letters here are those of scripts that join (Arabic, the Indic ones, ...): between Latin letters they only hide
    words from matching.
    """
    before, joiner, after = found.groups()
    if _joins(before) and (_joins(after) or unicodedata.combining(before) == _VIRAMA):
        return before + joiner
    if joiner == "\u200d" and _IS_EMOJI.match(before) and _IS_EMOJI.match(after):
        return before + joiner
    return before


def _joins(char: str) -> bool:
    """Whether `char` is a letter or mark from Hebrew on, which is where the joining scripts begin."""
    return "\u0590" <= char < "\u1e00" and unicodedata.category(char)[0] in "LM"


class TextHygiene(ColumnSignal):
    """The text as it should have been written, for people and for every later rule.

    Removed: terminal escape sequences, control characters, bidirectional controls, characters of no width, byte order
    marks, U+FFFD. The joiners U+200C and U+200D stay where they shape letters or emoji. Then canonical composition
    (NFC; where it is needed, of more than 30 combining marks in a row the rest goes), each run of Unicode white space
    becomes one space, ends are trimmed; what is empty then, or shows nothing (variation selectors, fillers), becomes
    null.

    Columns: `text_clean`; `num_text_repairs`, the number of characters that were removed or changed (0 or more; plain
    trimming does not count, a run of white space counts what it has beyond one space; where composition changes the
    text, at least 1); `text_repairs`, what was repaired: a sorted list of escape_sequence, control, bidi, no_width,
    no_character, tag, joiner, composition and white_space, empty where there was nothing. Unit: characters (code
    points). Model: none.
    Source: Unicode Standard Annexes 9 (bidi), 15 (NFC), 31 (joiners), 44 (White_Space); ECMA-48.
    """

    version: ClassVar[int] = 4
    level: ClassVar[Level] = "text"

    def reads(self) -> tuple[str, ...]:
        return ("text",)

    def writes(self) -> pa.Schema:
        return pa.schema(
            {"text_clean": pa.string(), "num_text_repairs": pa.int32(), "text_repairs": pa.list_(pa.string())}
        )

    def compute(self, rows: pa.Table) -> pa.Table:
        texts = rows.column("text").to_pylist()
        repaired = [(None, None) if text is None else repair(text) for text in texts]
        columns = {
            "text_clean": [text for text, _ in repaired],
            "num_text_repairs": [number for _, number in repaired],
            "text_repairs": [None if text is None else repair_kinds(text) for text in texts],
        }
        return as_table(columns, self.writes())
