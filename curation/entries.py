"""Finding the metadata entries (MetaCLIP's word) that texts hold: one list of one language, in one of three modes.

What each mode means, and where it comes from, stands in `curation.entry_forms`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import array_file, entry_automaton, entry_trie
from curation.entry_forms import Mode, is_useful, normalised, padded2

TABLE_VERSION = 1
"""Of the arrays that matchers keep; part of the name under which they are kept."""
_STRICT_SPACES, _STRICT_SYMBOLS = b" \t\n\r", b",.;:?!`"
_ASCII_SPACES = bytes([*range(9, 14), *range(28, 33)])  # what str.split() splits at


def _reading(spaces: bytes, symbols: bytes, fold: bool) -> entry_trie.Reading:
    kinds = np.zeros(256, np.uint8)
    kinds[list(spaces)], kinds[list(symbols)] = entry_trie.SPACE, entry_trie.SYMBOL
    folds = np.arange(256, dtype=np.uint8)
    if fold:
        folds[ord("A") : ord("Z") + 1] += 32
    return entry_trie.Reading(kinds, folds, fold)


_PUBLISHED = _reading(_STRICT_SPACES, _STRICT_SYMBOLS, fold=False)
_FIXED = _reading(_ASCII_SPACES, bytes(c for c in range(33, 127) if not chr(c).isalnum()), fold=True)


class EntryMatcher:
    """Finds all entries of a list in texts; matching is exact.

    `strict` and `fixed` come down to "the tokens of the entry occur in the text one after the other": a token trie over
    Arrow buffers (`curation.entry_trie`), every hit verified byte by byte. `strict2` is substring search: an
    Aho-Corasick automaton (`curation.entry_automaton`).
    """

    def __init__(self, mode: Mode, tables: dict[str, np.ndarray]) -> None:
        """`tables` are those of `build_tables`, in memory or mapped from a file."""
        self.mode = mode
        self.tables = tables

    @classmethod
    def of(cls, entries: Sequence[str], mode: Mode = "strict", first_id: int = 0) -> EntryMatcher:
        """The matcher of a list whose first entry has the id `first_id`."""
        return cls(mode, build_tables(entries, mode, first_id))

    @property
    def size_bytes(self) -> int:
        return sum(array.nbytes for array in self.tables.values())

    def match(self, texts: Sequence[str | None] | pa.Array) -> pa.ListArray:
        """For each text the sorted distinct ids (int32) of the entries that it holds; null for null."""
        array = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
        if self.mode == "strict2":
            return entry_automaton.match(entry_automaton.Automaton(**self.tables), array, _PUBLISHED)
        trie = entry_trie.Trie(**self.tables)
        if self.mode == "strict":
            return entry_trie.match(trie, array, _PUBLISHED)
        return entry_trie.match(trie, _normalised_where_needed(array), _FIXED)


def _normalised_where_needed(texts: pa.Array) -> pa.Array:
    """Texts with all but the ASCII ones normalised: the trie's reading does for ASCII what normalising would do."""
    plain = pc.fill_null(pc.string_is_ascii(texts), True)
    if pc.all(plain).as_py() in (True, None):
        return texts
    forms = pa.array(map(normalised, texts.filter(pc.invert(plain)).to_pylist()), texts.type)
    return pc.replace_with_mask(texts, pc.invert(plain), forms)


def build_tables(entries: Sequence[str], mode: Mode, first_id: int = 0) -> dict[str, np.ndarray]:
    """The flat arrays of a matcher, by name: about a second for 500,000 entries.

    Raises ValueError where two entries are equal, since their ids could then not be told apart.
    In `fixed` mode entries that become equal share the id of the first of them, entries of one kana are left out (one
    kana occurs nearly everywhere), and so are those of nothing but spaces.
    """
    if len(set(entries)) != len(entries):
        raise ValueError("the list holds an entry twice")
    forms: dict[str, int] = {}
    for number, entry in enumerate(entries, start=first_id):
        form = normalised(entry) if mode == "fixed" else entry if mode == "strict" else entry and padded2(entry)
        if is_useful(form) if mode == "fixed" else form or mode == "strict":
            forms.setdefault(form, number)
    ids = np.fromiter(forms.values(), np.int32, len(forms))
    if mode == "strict2":
        return entry_automaton.build(list(forms), ids)._asdict()
    return entry_trie.build([form.encode() for form in forms], ids)._asdict()


@lru_cache(maxsize=512)
def _kept(path: Path, mode: Mode) -> EntryMatcher:
    return EntryMatcher(mode, array_file.load(path))


def shared_matcher(
    folder: Path | None, name: str, mode: Mode, first_id: int, entries: Callable[[], Sequence[str]]
) -> EntryMatcher:
    """The matcher whose arrays lie in the file `name` of `folder`, mapped into memory, so that all processes of a
    machine share one copy; built of `entries()` and put there if it is not, or is damaged. Without a folder: built in
    this process's own memory."""
    if folder is None:
        return EntryMatcher.of(entries(), mode, first_id)
    path = folder / name
    try:
        return _kept(path, mode)
    except FileNotFoundError:
        pass
    except ValueError:  # damaged
        path.unlink(missing_ok=True)
    array_file.save(path, build_tables(entries(), mode, first_id))
    return _kept(path, mode)
