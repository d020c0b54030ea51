"""A trie over tokens, in flat arrays: finds runs of tokens in texts without building a Python object.

Both sides are token strings: tokens with one space between any two (empty tokens are allowed). An edge of the trie is
a (node, 64-bit hash of a token) in an open-addressing table. It is exact: building compares the bytes of tokens whose
hashes meet and starts again with another seed if they differ, and matching compares the bytes of every entry found.
A token that is no edge but hashes like one can thus only lead to an entry that the comparison then refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numba
import numpy as np
import pyarrow as pa

_SPACE = 32
_EMPTY = -1


class Trie(NamedTuple):
    """Flat arrays of a trie; node 0 is the root. They can be shared between processes without copying."""

    entries: np.ndarray
    """uint8: all entries, one after the other."""
    offsets: np.ndarray
    """int64 (num_entries + 1): where each entry begins in `entries`."""
    ids: np.ndarray
    """int32 (num_entries): the id to report for each entry."""
    keys: np.ndarray
    """uint64 (slots): hash of node and token of each edge."""
    children: np.ndarray
    """int32 (slots): the node that the edge leads to; -1 where the slot is free."""
    ends: np.ndarray
    """int32 (nodes): the entry that ends at the node, or -1."""
    seed: np.uint64


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled by numba, kept on disk where the folder of this file, or the user's cache, can be written."""
    try:
        return cast("Callable[..., Any]", numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # "cannot cache function: no locator available"
        return cast("Callable[..., Any]", numba.njit(nogil=True)(function))


@_compiled
def _edge_key(node: int, token_hash: np.uint64) -> np.uint64:
    """64 mixed bits of a node and the hash of a token (the finaliser of MurmurHash3)."""
    key = token_hash ^ (np.uint64(node) * np.uint64(0x9E3779B97F4A7C15))
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    key = (key ^ (key >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return key ^ (key >> np.uint64(33))


@_compiled
def _find_slot(keys: np.ndarray, children: np.ndarray, key: np.uint64) -> int:
    """The slot of `key`, or the free slot where it belongs."""
    mask = np.uint64(keys.size - 1)
    slot = key & mask
    while children[slot] != _EMPTY and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


@_compiled
def _fill(
    entries: np.ndarray, offsets: np.ndarray, keys: np.ndarray, children: np.ndarray, ends: np.ndarray, seed: np.uint64
) -> int:
    """Inserts all entries; the number of nodes, or -1 where two different edges have one key."""
    num_nodes = 1
    parents = np.zeros(ends.size, np.int32)
    token_starts = np.zeros(ends.size, np.int64)
    token_lengths = np.zeros(ends.size, np.int64)
    for number in range(offsets.size - 1):
        node, begin, token_hash = 0, offsets[number], seed
        for position in range(offsets[number], offsets[number + 1] + 1):
            if position < offsets[number + 1] and entries[position] != _SPACE:
                token_hash = (token_hash ^ np.uint64(entries[position])) * np.uint64(0x100000001B3)  # FNV-1a
                continue
            key = _edge_key(node, token_hash)
            slot = _find_slot(keys, children, key)
            length = position - begin
            if children[slot] == _EMPTY:
                keys[slot] = key
                children[slot] = num_nodes
                parents[num_nodes], token_starts[num_nodes], token_lengths[num_nodes] = node, begin, length
                num_nodes += 1
            child = children[slot]
            if parents[child] != node or token_lengths[child] != length:
                return -1
            for k in range(length):
                if entries[token_starts[child] + k] != entries[begin + k]:
                    return -1
            node, begin, token_hash = child, position + 1, seed
        ends[node] = number
    return num_nodes


def build(entries: Sequence[bytes], ids: np.ndarray) -> Trie:
    """A trie of distinct token strings; `ids` (int32) are what matching reports for them."""
    flat = np.frombuffer(b"".join(entries), np.uint8)
    offsets = np.zeros(len(entries) + 1, np.int64)
    np.cumsum([len(entry) for entry in entries], out=offsets[1:])
    num_edges = int(np.count_nonzero(flat == _SPACE)) + len(entries)  # at most, where no two entries share a token
    num_slots = 1 << max(4, int(num_edges * 1.25).bit_length())
    for seed in range(0xCBF29CE484222325, 0xCBF29CE484222325 + 16):
        keys = np.zeros(num_slots, np.uint64)
        children = np.full(num_slots, _EMPTY, np.int32)
        ends = np.full(num_edges + 1, _EMPTY, np.int32)
        num_nodes = _fill(flat, offsets, keys, children, ends, np.uint64(seed))
        if num_nodes > 0:
            return Trie(flat, offsets, ids.astype(np.int32), keys, children, ends[:num_nodes].copy(), np.uint64(seed))
    raise RuntimeError("sixteen hash functions each gave two tokens one key")  # a chance of about 1e-80


@_compiled
def _match(
    trie_entries: np.ndarray,
    trie_offsets: np.ndarray,
    ids: np.ndarray,
    keys: np.ndarray,
    children: np.ndarray,
    ends: np.ndarray,
    seed: np.uint64,
    data: np.ndarray,
    text_offsets: np.ndarray,
    valid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Ids found (all texts', one after the other) and where each text's begin."""
    found = np.empty(max(16, 8 * valid.size), np.int32)
    found_offsets = np.zeros(valid.size + 1, np.int32)
    num_found = 0
    longest = 0
    for row in range(valid.size):
        longest = max(longest, text_offsets[row + 1] - text_offsets[row])
    starts = np.empty(longest + 2, np.int64)  # starts[k + 1] - 1 is the end of token k
    hashes = np.empty(longest + 2, np.uint64)
    for row in range(valid.size):
        first = num_found
        if valid[row]:
            num_tokens = 0
            starts[0] = text_offsets[row]
            token_hash = seed
            for position in range(text_offsets[row], text_offsets[row + 1] + 1):
                if position < text_offsets[row + 1] and data[position] != _SPACE:
                    token_hash = (token_hash ^ np.uint64(data[position])) * np.uint64(0x100000001B3)
                else:
                    hashes[num_tokens] = token_hash
                    num_tokens += 1
                    starts[num_tokens] = position + 1
                    token_hash = seed
            for begin in range(num_tokens):
                node = 0
                for end in range(begin, num_tokens):
                    slot = _find_slot(keys, children, _edge_key(node, hashes[end]))
                    node = children[slot]
                    if node == _EMPTY:
                        break
                    number = ends[node]
                    if number == _EMPTY:
                        continue
                    length = trie_offsets[number + 1] - trie_offsets[number]
                    same = length == starts[end + 1] - 1 - starts[begin]
                    for k in range(length if same else 0):
                        same = same and trie_entries[trie_offsets[number] + k] == data[starts[begin] + k]
                    if not same:
                        continue
                    place = num_found
                    while place > first and found[place - 1] > ids[number]:
                        place -= 1
                    if place > first and found[place - 1] == ids[number]:
                        continue
                    if num_found == found.size:
                        larger = np.empty(2 * found.size, np.int32)
                        larger[:num_found] = found
                        found = larger
                    for k in range(num_found, place, -1):
                        found[k] = found[k - 1]
                    found[place] = ids[number]
                    num_found += 1
        found_offsets[row + 1] = num_found
    return found[:num_found], found_offsets


def match(trie: Trie, texts: pa.LargeStringArray) -> pa.ListArray:
    """For each token string the sorted ids of all entries whose tokens it holds one after the other; null for null."""
    _, offsets, data = texts.buffers()
    text_offsets = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    characters = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    valid = texts.is_valid().to_numpy(zero_copy_only=False)
    found, found_offsets = _match(*trie, characters, text_offsets, valid)
    return pa.ListArray.from_arrays(pa.array(found_offsets), pa.array(found), mask=pa.array(~valid))
