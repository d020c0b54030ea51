"""A trie over tokens, in flat arrays: finds runs of tokens in texts without building a Python object.

The tokens of a text are told apart while its bytes are read (`Reading`); those of an entry stand between single spaces.
Two open-addressing tables, both exact: `tokens` finds a token by its first eight bytes, its length and, if it is
longer, its spelling, and `runs` finds what follows a node by two numbers. One look into a table is one cache line; the
looks that a text needs do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curation.compiled import compiled

_SPACE = 32
_FREE = -1
_NO_ENTRY = -1
_LOW, _HIGH, _LENGTH, _START, _TOKEN_ID = range(5)
"""Columns of `tokens`. The first eight bytes of the token; its length, twice, plus 1 if runs begin with it, or _FREE;
where its bytes begin in `spelling` if it has more than eight; the id of the entry that it is, or _NO_ENTRY."""
_PARENT, _NEXT, _RUN_ID, _GOES_ON = range(4)
"""Columns of `runs`. The node that it continues, or _FREE; the token that continues it (slot in `tokens`); the id of
the entry that ends here, or _NO_ENTRY; 1 where longer runs go on from here."""
_SLOTS_PER_ITEM = 1.5

PART, SPACE, SYMBOL = 0, 1, 2
"""What a byte of a text is: part of a token, a separator, a token of its own."""


class Reading(NamedTuple):
    """How the bytes of a text (UTF-8) become tokens."""

    kinds: np.ndarray
    """uint8 (256): PART, SPACE or SYMBOL."""
    folds: np.ndarray
    """uint8 (256): the byte to compare in its place."""
    collapse: bool
    """Whether a run of separators is one; otherwise there are empty tokens between them."""


class Trie(NamedTuple):
    """Flat arrays. A node is a slot of `tokens` (a run of one token) or, counted on from there, a slot of `runs`."""

    tokens: np.ndarray
    """int32 (slots, 5), 20 bytes a slot."""
    spelling: np.ndarray
    """uint8: the tokens of more than eight bytes, one after the other."""
    runs: np.ndarray
    """int32 (slots, 4), 16 bytes a slot."""


@compiled
def _mixed(key: np.uint64) -> np.uint64:
    """A hash of 64 bits of which the upper half is well mixed."""
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (key ^ (key >> np.uint64(29))) * np.uint64(0xFF51AFD7ED558CCD)


@compiled
def _home(key: np.uint64, num_slots: int) -> np.int64:
    """The slot where the search for a key begins."""
    return np.int64(((key >> np.uint64(32)) * np.uint64(num_slots)) >> np.uint64(32))


@compiled
def _find_token(
    tokens: np.ndarray,
    spelling: np.ndarray,
    first: np.uint64,
    key: np.uint64,
    text: np.ndarray,
    begin: int,
    length: int,
) -> np.int64:
    """The slot of the token `text[begin : begin + length]`, or the free slot where it belongs.

    first: its first eight bytes, little endian. key: `_mixed` hash of its bytes and its length.
    """
    low = np.int32(np.uint32(first & np.uint64(0xFFFFFFFF)))
    high = np.int32(np.uint32(first >> np.uint64(32)))
    slot = _home(key, tokens.shape[0])
    while tokens[slot, _LENGTH] != _FREE:
        if tokens[slot, _LOW] == low and tokens[slot, _HIGH] == high and tokens[slot, _LENGTH] >> 1 == length:
            same = True
            start = tokens[slot, _START]
            for k in range(8, length):
                if spelling[start + k] != text[begin + k]:
                    same = False
                    break
            if same:
                return slot
        slot += 1
        if slot == tokens.shape[0]:
            slot = np.int64(0)
    return slot


@compiled
def _find_run(runs: np.ndarray, parent: np.int64, token: np.int64) -> np.int64:
    """The slot of the run that continues `parent` with `token`, or the free slot where it belongs."""
    slot = _home(_mixed((np.uint64(parent) << np.uint64(32)) | np.uint64(token)), runs.shape[0])
    while runs[slot, _PARENT] != _FREE and (runs[slot, _PARENT] != parent or runs[slot, _NEXT] != token):
        slot += 1
        if slot == runs.shape[0]:
            slot = np.int64(0)
    return slot


@compiled
def _token_key(text: np.ndarray, begin: int, end: int) -> tuple[np.uint64, np.uint64]:
    """The first eight bytes of a token and its key, as `_match` makes them while it reads."""
    first, word, state = np.uint64(0), np.uint64(0), np.uint64(0)
    for k in range(end - begin):
        word |= np.uint64(text[begin + k]) << np.uint64(8 * (k & 7))
        if k & 7 == 7:
            if k == 7:
                first = word
            state = _mixed(state ^ word)
            word = np.uint64(0)
    if end - begin < 8:
        first = word
    return first, _mixed(state ^ word ^ (np.uint64(end - begin) << np.uint64(56)))


@compiled
def _fill(
    entries: np.ndarray,
    offsets: np.ndarray,
    ids: np.ndarray,
    tokens: np.ndarray,
    spelling: np.ndarray,
    runs: np.ndarray,
) -> int:
    """Inserts all entries, each followed by one byte more; the number of bytes of `spelling` in use."""
    num_tokens = tokens.shape[0]
    used = 0
    for number in range(offsets.size - 1):
        node, begin = np.int64(_FREE), offsets[number]
        for position in range(offsets[number], offsets[number + 1]):
            if position < offsets[number + 1] - 1 and entries[position] != _SPACE:
                continue
            length = position - begin
            first, key = _token_key(entries, begin, position)
            token = _find_token(tokens, spelling, first, key, entries, begin, length)
            if tokens[token, _LENGTH] == _FREE:
                tokens[token, _LOW] = np.int32(np.uint32(first & np.uint64(0xFFFFFFFF)))
                tokens[token, _HIGH] = np.int32(np.uint32(first >> np.uint64(32)))
                tokens[token, _LENGTH], tokens[token, _START] = 2 * length, used
                tokens[token, _TOKEN_ID] = _NO_ENTRY
                for k in range(length if length > 8 else 0):
                    spelling[used + k] = entries[begin + k]
                used += length if length > 8 else 0
            if node == _FREE:
                node = token
            else:
                run = _find_run(runs, node, token)
                if runs[run, _PARENT] == _FREE:
                    runs[run, _PARENT], runs[run, _NEXT] = node, token
                    runs[run, _RUN_ID], runs[run, _GOES_ON] = _NO_ENTRY, 0
                    if node < num_tokens:
                        tokens[node, _LENGTH] |= 1
                    else:
                        runs[node - num_tokens, _GOES_ON] = 1
                node = num_tokens + run
            begin = position + 1
        if node < num_tokens:
            tokens[node, _TOKEN_ID] = ids[number]
        else:
            runs[node - num_tokens, _RUN_ID] = ids[number]
    return used


def build(entries: Sequence[bytes], ids: np.ndarray) -> Trie:
    """A trie of distinct token strings; `ids` (0 to 2^31 - 1) are what matching reports for them.

    Raises ValueError where the entries are longer than 2 GiB together.
    """
    flat = np.frombuffer(b"".join(entry + b" " for entry in entries), np.uint8)
    if flat.size >= 1 << 31:
        raise ValueError(f"the entries hold {flat.size:,} bytes, more than 2 GiB: split the list by language")
    offsets = np.zeros(len(entries) + 1, np.int64)
    np.cumsum([len(entry) + 1 for entry in entries], out=offsets[1:])
    distinct = {token for entry in entries for token in entry.split(b" ")}
    num_runs = sum(entry.count(b" ") for entry in entries)  # at most, where no two entries share a beginning
    tokens = np.full((max(16, int(len(distinct) * _SLOTS_PER_ITEM)), 5), _FREE, np.int32)
    runs = np.full((max(16, int(num_runs * _SLOTS_PER_ITEM)), 4), _FREE, np.int32)
    spelling = np.zeros(sum(len(token) for token in distinct if len(token) > 8) + 1, np.uint8)
    _fill(flat, offsets, ids.astype(np.int32), tokens, spelling, runs)
    for array in (tokens, spelling, runs):
        array.flags.writeable = False
    return Trie(tokens, spelling, runs)


@compiled
def _match(
    tokens: np.ndarray,
    spelling: np.ndarray,
    runs: np.ndarray,
    kinds: np.ndarray,
    folds: np.ndarray,
    collapse: bool,
    data: np.ndarray,
    text_offsets: np.ndarray,
    valid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Ids found (all texts', one after the other) and where each text's begin."""
    found = np.empty(max(64, 16 * valid.size), np.int32)
    found_offsets = np.zeros(valid.size + 1, np.int32)
    num_found = 0
    longest = 0
    for row in range(valid.size):
        longest = max(longest, text_offsets[row + 1] - text_offsets[row])
    most = 2 * longest + 3
    form = np.empty(longest + 1, np.uint8)  # the bytes of all tokens, one after the other
    begins, lengths = np.empty(most, np.int64), np.empty(most, np.int64)
    firsts, keys = np.empty(most, np.uint64), np.empty(most, np.uint64)
    slots = np.empty(most, np.int64)  # of the tokens, _FREE where no entry has the token
    lasts, nodes = np.empty(most, np.int64), np.empty(most, np.int64)  # of runs that may go on: last token, node
    num_slots = tokens.shape[0]
    zero = np.uint64(0)
    for row in range(valid.size):
        first_found = num_found
        found_offsets[row] = first_found
        if not valid[row]:
            continue
        # read the tokens
        num_tokens, size, length = 0, 0, 0
        first, word, state = zero, zero, zero
        stop, position = text_offsets[row + 1], text_offsets[row]
        while position <= stop:
            kind = SPACE
            byte = np.uint8(0)
            if position < stop:
                byte = data[position]
                kind = kinds[byte]
                if kind == PART:
                    byte = folds[byte]
                    form[size] = byte
                    size += 1
                    word |= np.uint64(byte) << np.uint64(8 * (length & 7))
                    length += 1
                    position += 1
                    if length & 7 == 0:
                        if length == 8:
                            first = word
                        state = _mixed(state ^ word)
                        word = zero
                    continue
            if length > 0 or not collapse:
                begins[num_tokens], lengths[num_tokens] = size - length, length
                firsts[num_tokens] = word if length < 8 else first
                keys[num_tokens] = _mixed(state ^ word ^ (np.uint64(length) << np.uint64(56)))
                num_tokens += 1
                length, first, word, state = 0, zero, zero, zero
            if kind == SYMBOL:
                begins[num_tokens], lengths[num_tokens], firsts[num_tokens] = size, 1, np.uint64(byte)
                keys[num_tokens] = _mixed(np.uint64(byte) ^ (np.uint64(1) << np.uint64(56)))
                num_tokens += 1
            position += 1
        # find them; what is an entry by itself is a hit
        for token in range(num_tokens):
            slot = _find_token(tokens, spelling, firsts[token], keys[token], form, begins[token], lengths[token])
            slots[token] = slot if tokens[slot, _LENGTH] != _FREE else _FREE
        if num_found + num_tokens > found.size:
            found = _larger(found, num_found, num_found + num_tokens)
        num_runs = 0
        for token in range(num_tokens):
            slot = slots[token]
            if slot == _FREE:
                continue
            found[num_found] = tokens[slot, _TOKEN_ID]
            num_found += tokens[slot, _TOKEN_ID] >= 0
            lasts[num_runs], nodes[num_runs] = token, slot
            num_runs += tokens[slot, _LENGTH] & 1
        # runs of two tokens, then of three ...
        while num_runs:
            if num_found + num_runs > found.size:
                found = _larger(found, num_found, num_found + num_runs)
            still = 0
            for run in range(num_runs):
                token = lasts[run] + 1
                if token >= num_tokens or slots[token] == _FREE:
                    continue
                slot = _find_run(runs, nodes[run], slots[token])
                if runs[slot, _PARENT] == _FREE:
                    continue
                found[num_found] = runs[slot, _RUN_ID]
                num_found += runs[slot, _RUN_ID] >= 0
                lasts[still], nodes[still] = token, num_slots + slot
                still += runs[slot, _GOES_ON]
            num_runs = still
        num_found = sort_distinct(found, first_found, num_found)
    found_offsets[valid.size] = num_found
    return found[:num_found], found_offsets


@compiled
def _larger(found: np.ndarray, used: int, wanted: int) -> np.ndarray:
    grown = np.empty(max(2 * found.size, 2 * wanted), np.int32)
    grown[:used] = found[:used]
    return grown


@compiled
def sort_distinct(found: np.ndarray, first: int, last: int) -> int:
    """Sorts `found[first:last]` and takes out what occurs again; the new end."""
    for gap in (8_858, 3_937, 1_750, 701, 301, 132, 57, 23, 10, 4, 1):  # Shell's sort with Ciura's gaps
        for i in range(first + gap, last):
            number = found[i]
            place = i
            while place >= first + gap and found[place - gap] > number:
                found[place] = found[place - gap]
                place -= gap
            found[place] = number
    end = first
    for i in range(first, last):
        if end == first or found[end - 1] != found[i]:
            found[end] = found[i]
            end += 1
    return end


def match(trie: Trie, texts: pa.Array, reading: Reading) -> pa.ListArray:
    """For each text (string or large_string) the sorted distinct ids of all entries whose tokens it holds one after
    the other; null for null."""
    offsets, data, valid = text_buffers(texts)
    found, found_offsets = _match(*trie, *reading, data, offsets, valid)
    return pa.ListArray.from_arrays(pa.array(found_offsets), pa.array(found), mask=pa.array(~valid))


def text_buffers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets (int64, one more than texts), bytes, and which texts are there, without copying the bytes."""
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    _, offsets, data = texts.buffers()
    nothing = np.frombuffer(b"\0", np.uint8)
    if offsets is None or offsets.size == 0:  # an empty array need not have any
        return np.zeros(1, np.int64), nothing, np.zeros(0, bool)
    text_offsets = np.frombuffer(offsets, width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    characters = np.frombuffer(data, np.uint8) if data is not None and data.size else nothing
    return text_offsets, characters, texts.is_valid().to_numpy(zero_copy_only=False)
