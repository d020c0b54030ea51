"""Metadata entries (MetaCLIP's word): loading lists of them, and finding the entries that a text holds.

Source of `strict`: MetaCLIP, arXiv 2309.16671, section 3 and the released matcher: a text matches an entry if
`padded(entry)` is a substring of `spaced(text)`. `fixed` is this project's own and mends the faults of that rule.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from curation import entry_trie
from curation.scripts import LETTERS_PER_WORD, script_of

Mode = Literal["strict", "fixed"]

_SPACED = re.compile(r"([,.;:?!`])")
_SPACES = str.maketrans("\t\n\r", "   ")


def spaced(text: str) -> str:
    """`text` between two spaces, each of `, . ; : ? ! `` ` `` between spaces, tabs and line ends as spaces (strict)."""
    return _SPACED.sub(r" \1 ", f" {text} ").translate(_SPACES)


def padded(entry: str) -> str:
    """`entry` between two spaces."""
    return f" {entry} "


def matches_dully(texts: Sequence[str | None], entries: Sequence[str]) -> list[list[int] | None]:
    """The definition of `strict`, word for word: the oracle that tests hold the fast matcher against."""
    patterns = [padded(entry) for entry in entries]
    return [
        None if text is None else [k for k, pattern in enumerate(patterns) if pattern in spaced_text]
        for text, spaced_text in ((text, spaced(text or "")) for text in texts)
    ]


def normalised(text: str) -> str:
    """The form in which `fixed` compares texts and entries: tokens between single spaces.

    NFKC and case folding; every run of Unicode white space is one space; punctuation and symbols are tokens of their
    own; so is each character of a script that is written without spaces (Han, kana, Thai, Lao, Khmer, Myanmar,
    Tibetan, ...). A Hangul word becomes a mark for its beginning and its syllables, so that an entry matches at the
    beginning of a word whatever particle follows.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if folded.isascii():
        return " ".join(_ASCII_SYMBOLS.sub(r" \1 ", folded).split())
    marked = _HANGUL_WORD.sub(f" {_WORD_BEGIN} \\g<0>", folded)
    return " ".join("".join(map(_split_character, marked)).split())


_ASCII_SYMBOLS = re.compile(r"([!-/:-@\[-`{-~])")
_WORD_BEGIN = "\ue000"  # a private character: begins a Hangul word
_HANGUL_WORD = re.compile("[\uac00-\ud7a3]+")


@lru_cache(maxsize=1 << 16)
def _split_character(char: str) -> str:
    stands_alone = unicodedata.category(char)[0] in "PS" or "\uac00" <= char <= "\ud7a3" or char == "\u30fc"
    return f" {char} " if stands_alone or script_of(char) in LETTERS_PER_WORD else char


class EntryMatcher:
    """Finds all entries of a list in texts. Building takes about a second for 500,000 entries; matching is exact.

    A token trie over Arrow buffers (`curation.entry_trie`): both modes come down to "the tokens of the entry occur in
    the text one after the other", and every hit is verified byte by byte.
    """

    def __init__(self, entries: Sequence[str], mode: Mode = "strict") -> None:
        """Raises ValueError where two entries are equal, since their ids could then not be told apart.

        In `fixed` mode entries that become equal share the id of the first of them, entries of one kana are left
        out (one kana occurs nearly everywhere), and so are those of nothing but spaces.
        """
        if len(set(entries)) != len(entries):
            raise ValueError("the list holds an entry twice")
        self._prepare: Callable[[str], str] = _strict_tokens if mode == "strict" else normalised
        forms: dict[str, int] = {}
        for number, entry in enumerate(entries):
            form = entry if mode == "strict" else normalised(entry)
            if mode == "strict" or _is_useful(form):
                forms.setdefault(form, number)
        self._trie = entry_trie.build(
            [form.encode() for form in forms], np.fromiter(forms.values(), np.int32, len(forms))
        )

    def match(self, texts: Sequence[str | None]) -> pa.ListArray:
        """For each text the sorted ids (int32, positions in the list) of the entries that it holds; null for null."""
        prepared = pa.array([None if text is None else self._prepare(text) for text in texts], pa.large_string())
        return entry_trie.match(self._trie, prepared)


def _strict_tokens(text: str) -> str:
    """`spaced(text)` without its first and last space: the tokens, empty ones too, with one space between any two."""
    return spaced(text)[1:-1]


def _is_useful(form: str) -> bool:
    letters = form.replace(" ", "")
    return bool(letters) and not (len(letters) == 1 and script_of(letters) in ("Hiragana", "Katakana"))


def entry_file(name: str) -> Path:
    """The file of an entry list: `name` is a path, or the name of a list of this package such as "entries_en"."""
    packaged = Path(__file__).parent / "metadata" / f"{name}.txt.gz"
    if re.fullmatch(r"\w+", name) and packaged.is_file():
        return packaged
    path = Path(name)
    if not path.is_file():
        known = sorted(file.name.removesuffix(".txt.gz") for file in packaged.parent.glob("*.txt.gz"))
        raise FileNotFoundError(f"no entry list {name!r}: neither a file nor one of {', '.join(known)}")
    return path


def load_entries(name: str) -> list[str]:
    """The entries of a list: a JSON array of strings, or one entry a line (UTF-8); gzip where the name ends in .gz.

    Raises FileNotFoundError, and ValueError where the file is no such list.
    """
    path = entry_file(name)
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        if Path(path.name.removesuffix(".gz")).suffix != ".json":
            return [line for line in text.split("\n") if line]
        entries = json.loads(text)
    except (ValueError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} is no list of entries: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{path} is no JSON array of strings")
    return entries


@lru_cache(maxsize=8)
def file_digest(path: Path, _mtime_ns: int) -> str:
    """SHA-256 of a file; the second argument makes the cache notice a file that was replaced."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entries_digest(name: str) -> str:
    """SHA-256 of the file of an entry list, once per process and file."""
    path = entry_file(name)
    return file_digest(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def matcher(name: str, mode: Mode, _digest: str) -> EntryMatcher:
    """The matcher of a list, once per process; pass `entries_digest(name)`."""
    return EntryMatcher([sys.intern(entry) for entry in load_entries(name)], mode)
