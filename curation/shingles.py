"""Shingles: what two texts must have in common to be near-duplicates, as sets of 64-bit hashes over Arrow buffers.

Normal form of a text (`normal_form`), in which texts are compared:

1. NFKC, lower case, NFKC (as pyarrow has them, so that its pinned version decides for every machine);
2. soft hyphens, joiners, variation selectors, bidirectional marks and characters of no width vanish;
3. letters, marks and digits (L, M, N) make words; everything else, punctuation and symbols too, separates them;
4. each character of a script that is written without spaces is, with the marks on it, a word of its own (`UNSPACED`);
5. words stand between single spaces. A text without words has no normal form: it is compared with nothing.

A shingle is a run of `words` successive words; in a stretch of characters of unspaced scripts, a run of `characters`
of them (two words of the one are about as rare as three characters of the other). A shorter stretch is one shingle.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.compiled import compiled

WORDS = 2
CHARACTERS = 3

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007), (0x3021, 0x3029), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF),  # Han
    (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x1AFF0, 0x1B16F),  # kana
    (0x3105, 0x312F), (0x31A0, 0x31BF),  # Bopomofo
    (0xA000, 0xA4CF),  # Yi
)  # fmt: skip
"""Blocks of scripts whose words are not parted by spaces (first and last code point; Unicode 15.1)."""
_VANISHES = ((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E),
             (0x2060, 0x206F), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xE0000, 0xE0FFF))  # fmt: skip
_SEPARATOR, _WORD, _ALONE, _MARK, _NOTHING = range(5)
_SPACE = 32
_LAST_CODE_POINT = 0x10FFFF
_FIRST_ALONE_BYTE = 0xE0
"""UTF-8 of every unspaced script begins with this byte or a higher one."""


class ShingleSets(NamedTuple):
    """The sets of N texts, one after the other."""

    hashes: np.ndarray
    """uint64: the hashes of each text's shingles, each once, rising."""
    offsets: np.ndarray
    """int64 (N + 1): where each text's begin."""


@lru_cache(maxsize=1)
def _classes() -> np.ndarray:
    """uint8 (code points): what a character does; from the tables of pyarrow's RE2, and the blocks above."""
    table = np.full(_LAST_CODE_POINT + 1, _SEPARATOR, np.uint8)
    points = np.array([c for c in range(0x323B0) if not 0xD800 <= c < 0xE000])
    characters = pa.array(map(chr, points.tolist()))
    for pattern, kind in ((r"[\p{L}\p{N}]", _WORD), (r"\p{M}", _MARK)):
        table[points[pc.match_substring_regex(characters, pattern).to_numpy(zero_copy_only=False)]] = kind
    unspaced = np.zeros(len(table), bool)
    for first, last in UNSPACED:
        unspaced[first : last + 1] = True
    table[unspaced & (table == _WORD)] = _ALONE
    table[~unspaced & (table == _MARK)] = _WORD
    for first, last in _VANISHES:
        table[first : last + 1] = _NOTHING
    return table


_ASCII = np.array([ord(chr(c).lower()) if c < 0x80 and chr(c).isalnum() else _SPACE for c in range(256)], np.uint8)
"""Each byte of ASCII words in lower case, a space for all others."""


@compiled
def _normalise(
    ascii_data: np.ndarray,
    ascii_offsets: np.ndarray,
    valid: np.ndarray,
    is_folded: np.ndarray,
    folded_data: np.ndarray,
    folded_offsets: np.ndarray,
    classes: np.ndarray,
    ascii_forms: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 of the normal forms, one after the other, and where each begins.

    A text that `is_folded` is taken from `folded_data`, the next one there.
    """
    # a character that stands alone may get a space on either side: at most 5 bytes for 3
    size = folded_offsets[-1] - folded_offsets[0] + ascii_offsets[-1] - ascii_offsets[0] + valid.size
    out = np.empty(size + 2 * (size // 3) + 2, np.uint8)
    out_offsets = np.zeros(valid.size + 1, np.int64)
    end, num_folded = 0, 0
    for row in range(valid.size):
        begin = end
        in_word = False  # what is written ends within a word, not with the space behind it
        data, position = ascii_data, ascii_offsets[row]
        stop = ascii_offsets[row + 1] if valid[row] else position
        if is_folded[row]:
            data, position = folded_data, folded_offsets[num_folded]
            num_folded += 1
            stop = folded_offsets[num_folded]
        while position < stop:
            lead = data[position]
            if lead < 0x80:  # without a branch: a space is written over unless it is the first after a word
                byte = ascii_forms[lead]
                out[end] = byte
                is_word = byte != _SPACE
                end += is_word | in_word
                in_word = is_word
                position += 1
                continue
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            point = np.int64(lead) & (0xFF >> (length + 1))
            for k in range(1, length):
                point = (point << 6) | (np.int64(data[position + k]) & 0x3F)
            kind = classes[point]
            if in_word and kind in (_SEPARATOR, _ALONE):
                out[end] = _SPACE
                end += 1
                in_word = False
            if kind == _MARK and not in_word and end > begin:
                end -= 1  # it belongs to what is written, before the space
            if kind in (_WORD, _ALONE, _MARK):
                for k in range(length):
                    out[end + k] = data[position + k]
                end += length
                in_word = in_word or kind == _WORD
                if not in_word:
                    out[end] = _SPACE
                    end += 1
            position += length
        if end > begin and not in_word:
            end -= 1
        out_offsets[row + 1] = end
    return out[:end], out_offsets


def normal_form(texts: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """The normal form of each text (string or large_string); null for null and for a text without words."""
    given = (texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts).cast(pa.large_string())
    valid = given.is_valid().to_numpy(zero_copy_only=False)
    is_folded = _beyond_ascii(*_buffers(given)) & valid
    others = given.take(pa.array(np.flatnonzero(is_folded)))
    if len(others):
        others = pc.utf8_normalize(pc.utf8_lower(pc.utf8_normalize(others, form="NFKC")), form="NFKC")
    out, out_offsets = _normalise(*_buffers(given), valid, is_folded, *_buffers(others), _classes(), _ASCII)
    array = pa.LargeStringArray.from_buffers(len(given), pa.py_buffer(out_offsets), pa.py_buffer(out))
    empty = out_offsets[1:] == out_offsets[:-1]
    return pc.if_else(pa.array(empty), pa.scalar(None, pa.large_string()), array) if empty.any() else array


def _beyond_ascii(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """bool (N): whether a text holds anything but ASCII."""
    found = np.zeros(len(offsets) - 1, bool)
    high = np.flatnonzero(data[offsets[0] : offsets[-1]] >= 0x80) + offsets[0]
    found[np.searchsorted(offsets, high, side="right") - 1] = True
    return found


def _buffers(array: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and offsets (int64, N + 1) of a large_string array, without copying."""
    _, offsets, data = array.buffers()
    if len(array) == 0:
        return np.zeros(1, np.uint8), np.zeros(1, np.int64)
    where = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return (np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)), where


@compiled
def mixed(key: np.uint64) -> np.uint64:
    """64 bits well mixed: the finaliser of MurmurHash3."""
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return key ^ (key >> np.uint64(33))


@compiled
def _shingle(
    data: np.ndarray, offsets: np.ndarray, classes: np.ndarray, words: int, characters: int, distinct: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The shingle hashes of normal forms, sorted and each once if `distinct`."""
    longest = 0
    for row in range(offsets.size - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    # a word takes two bytes or more with its space; memory that is never written to costs nothing
    out = np.empty((offsets[-1] - offsets[0]) // 2 + offsets.size, np.uint64)
    out_offsets = np.zeros(offsets.size, np.int64)
    tokens = np.empty(longest // 2 + 2, np.uint64)
    alone = np.empty(longest // 2 + 2, np.bool_)
    end = 0
    for row in range(offsets.size - 1):
        begin = end
        count = 0
        token = np.uint64(0xCBF29CE484222325)  # FNV-1a
        first = data[offsets[row]] if offsets[row + 1] > offsets[row] else np.uint8(0)
        start = offsets[row]
        for position in range(offsets[row], offsets[row + 1] + 1):
            if position < offsets[row + 1] and data[position] != _SPACE:
                token = (token ^ np.uint64(data[position])) * np.uint64(0x100000001B3)
            elif position > start:
                tokens[count] = mixed(token)
                first = data[start]
                alone[count] = False
                if first >= _FIRST_ALONE_BYTE:
                    length = 3 if first < 0xF0 else 4
                    point = np.int64(first) & (0xFF >> (length + 1))
                    for k in range(1, length):
                        point = (point << 6) | (np.int64(data[start + k]) & 0x3F)
                    alone[count] = classes[point] == _ALONE or classes[point] == _MARK
                count += 1
                start = position + 1
                token = np.uint64(0xCBF29CE484222325)
        stretch = 0
        while stretch < count:
            stop = stretch + 1
            while stop < count and alone[stop] == alone[stretch]:
                stop += 1
            size = characters if alone[stretch] else words
            for k in range(stretch, max(stretch + 1, stop - size + 1)):
                key = tokens[k]
                for place in range(k + 1, min(stop, k + size)):
                    key = mixed(key * np.uint64(0x9E3779B97F4A7C15) + tokens[place])
                out[end] = key
                end += 1
            stretch = stop
        if distinct:
            end = begin + _sort_distinct(out[begin:end])
        out_offsets[row + 1] = end
    return out[:end], out_offsets


@compiled
def _sort_distinct(values: np.ndarray) -> int:
    """Sorts in place and moves the distinct values to the front; how many there are."""
    if values.size > 48:
        values.sort()
    else:
        for k in range(1, values.size):
            value, place = values[k], k
            while place > 0 and values[place - 1] > value:
                values[place] = values[place - 1]
                place -= 1
            values[place] = value
    count = min(1, values.size)
    for k in range(1, values.size):
        if values[k] != values[count - 1]:
            values[count] = values[k]
            count += 1
    return count


def shingle_sets(
    normal: pa.LargeStringArray, words: int = WORDS, characters: int = CHARACTERS, distinct: bool = True
) -> ShingleSets:
    """The shingle sets of normal forms (`normal_form`); empty for null. Memory: 8 bytes a shingle, 8 a text.

    Two shingles of one hash would count as one: among 10^10 different ones one pair is to be expected, so a Jaccard
    similarity that is computed from these sets is exact for all purposes. Without `distinct` they come as they stand in
    the text, which is enough for a signature. Raises ValueError for a length below 1.
    """
    if min(words, characters) < 1:
        raise ValueError(f"shingles of {words} words or {characters} characters: both must be at least 1")
    data, offsets = _buffers(normal)
    return ShingleSets(*_shingle(data, offsets, _classes(), words, characters, distinct))


@compiled
def jaccard(hashes: np.ndarray, offsets: np.ndarray, i: int, j: int) -> float:
    """Shared over all shingles of texts i and j; 0 where both have none."""
    share: float = shared_share(hashes[offsets[i] : offsets[i + 1]], hashes[offsets[j] : offsets[j + 1]])
    return share


@compiled
def shared_share(x: np.ndarray, y: np.ndarray) -> float:
    """Jaccard similarity of two rising arrays without repeats."""
    a, b, shared = 0, 0, 0
    while a < x.size and b < y.size:
        if x[a] == y[b]:
            shared += 1
            a += 1
            b += 1
        elif x[a] < y[b]:
            a += 1
        else:
            b += 1
    total = x.size + y.size - shared
    return shared / total if total else 0.0
