"""An Aho-Corasick automaton over characters, in flat arrays: finds all entries that occur anywhere in texts.

For matching without word boundaries (MetaCLIP 2's rule for scripts that are written without spaces). Each node is a
slot of an open-addressing table, found by its parent and its character; both are kept in it, so that finding is exact.
Source: Aho and Corasick 1975, "Efficient string matching: an aid to bibliographic search".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curation.compiled import compiled
from curation.entry_trie import Reading, sort_distinct, text_buffers

_FREE = -2
_NONE = -1
_PARENT, _CHARACTER, _FAIL, _ID, _SHORTER = range(5)
"""Columns of a slot. Fail: the node of the longest proper suffix that is in the trie. Id: of the entry that ends here.
Shorter: the nearest node on the way along `fail` where an entry ends. The root is the node after the last slot."""
_SLOTS_PER_NODE = 1.4


class Automaton(NamedTuple):
    """int32 (slots, 5), 20 bytes a slot; can be shared between processes without copying."""

    slots: np.ndarray


@compiled
def _find_slot(slots: np.ndarray, parent: int, character: int) -> np.int64:
    """The slot of a child, or the free slot where it belongs."""
    key = (np.uint64(parent) << np.uint64(21)) | np.uint64(character)
    key = (key ^ (key >> np.uint64(31))) * np.uint64(0xD6E8FEB86659FD93)
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0xFF51AFD7ED558CCD)
    slot = np.int64(((key >> np.uint64(32)) * np.uint64(slots.shape[0])) >> np.uint64(32))
    while slots[slot, _ID] != _FREE and (slots[slot, _PARENT] != parent or slots[slot, _CHARACTER] != character):
        slot += 1
        if slot == slots.shape[0]:
            slot = np.int64(0)
    return slot


@compiled
def _fill(slots: np.ndarray, characters: np.ndarray, offsets: np.ndarray, ids: np.ndarray) -> None:
    """Inserts all entries, then sets the suffix links level by level."""
    root = slots.shape[0]
    depths = np.zeros(root, np.int32)
    deepest = 0
    for number in range(offsets.size - 1):
        node = root
        for position in range(offsets[number], offsets[number + 1]):
            child = _find_slot(slots, node, characters[position])
            if slots[child, _ID] == _FREE:
                slots[child, _PARENT], slots[child, _CHARACTER] = node, characters[position]
                slots[child, _ID] = _NONE
                depths[child] = position - offsets[number] + 1
                deepest = max(deepest, depths[child])
            node = child
        slots[node, _ID] = ids[number]
    # nodes by depth (a counting sort), so that a node's suffixes, which are shorter, are ready before it
    places = np.zeros(deepest + 2, np.int64)
    for slot in range(root):
        if slots[slot, _ID] != _FREE:
            places[depths[slot] + 1] += 1
    for depth in range(1, deepest + 2):
        places[depth] += places[depth - 1]
    order = np.empty(places[deepest + 1], np.int32)
    for slot in range(root):
        if slots[slot, _ID] != _FREE:
            order[places[depths[slot]]] = slot
            places[depths[slot]] += 1
    for slot in order:
        slots[slot, _FAIL], slots[slot, _SHORTER] = root, root
        if slots[slot, _PARENT] == root:
            continue
        suffix = slots[slots[slot, _PARENT], _FAIL]
        while True:
            child = _find_slot(slots, suffix, slots[slot, _CHARACTER])
            if slots[child, _ID] != _FREE:
                slots[slot, _FAIL] = child
                slots[slot, _SHORTER] = child if slots[child, _ID] >= 0 else slots[child, _SHORTER]
                break
            if suffix == root:
                break
            suffix = slots[suffix, _FAIL]


def build(entries: Sequence[str], ids: np.ndarray) -> Automaton:
    """An automaton of distinct strings, none of them empty; `ids` (0 to 2^31 - 1) are what matching reports."""
    characters = np.frombuffer("".join(entries).encode("utf-32-le"), np.uint32).astype(np.int32)
    offsets = np.zeros(len(entries) + 1, np.int64)
    np.cumsum([len(entry) for entry in entries], out=offsets[1:])
    num_nodes = _count_nodes(entries)
    slots = np.zeros((max(16, int(num_nodes * _SLOTS_PER_NODE)), 5), np.int32)
    slots[:, _ID] = _FREE
    _fill(slots, characters, offsets, ids.astype(np.int32))
    slots.flags.writeable = False
    return Automaton(slots)


def _count_nodes(entries: Sequence[str]) -> int:
    """Distinct prefixes of the entries: in sorted order, each entry adds what it does not share with the one before."""
    total, before = 0, ""
    for entry in sorted(entries):
        shared, most = 0, min(len(before), len(entry))
        while shared < most and before[shared] == entry[shared]:
            shared += 1
        total += len(entry) - shared
        before = entry
    return total


@compiled
def _step(slots: np.ndarray, node: int, character: int) -> np.int64:
    """The node of the longest suffix of what was read that is in the trie, after one more character."""
    root = slots.shape[0]
    while True:
        child = _find_slot(slots, node, character)
        if slots[child, _ID] != _FREE:
            return child
        if node == root:
            return np.int64(root)
        node = slots[node, _FAIL]


@compiled
def _match(
    slots: np.ndarray, kinds: np.ndarray, data: np.ndarray, text_offsets: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ids found (all texts', one after the other) and where each text's begin; texts are spaced while they are read."""
    root = slots.shape[0]
    found = np.empty(max(16, 12 * valid.size), np.int32)
    found_offsets = np.zeros(valid.size + 1, np.int32)
    num_found = 0
    read = np.empty(3, np.int64)
    for row in range(valid.size):
        first = num_found
        found_offsets[row] = first
        node = root
        position, stop = text_offsets[row] - 1, text_offsets[row + 1]
        while valid[row] and position <= stop:
            num_read, read[0] = 1, 32
            if position < text_offsets[row] or position == stop:
                position += 1
            else:
                byte = np.int64(data[position])
                if byte < 0x80:
                    position += 1
                    if kinds[byte] == 0:
                        read[0] = byte
                    elif kinds[byte] == 2:
                        num_read, read[1], read[2] = 3, byte, 32
                else:
                    more = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
                    character = byte & (0x3F >> more)
                    for k in range(1, more + 1):
                        character = (character << 6) | (np.int64(data[position + k]) & 0x3F)
                    read[0] = character
                    position += more + 1
            for k in range(num_read):
                node = _step(slots, node, read[k])
                hit = node
                while hit != root:
                    if slots[hit, _ID] >= 0:
                        if num_found == found.size:
                            larger = np.empty(2 * found.size, np.int32)
                            larger[:num_found] = found
                            found = larger
                        found[num_found] = slots[hit, _ID]
                        num_found += 1
                    hit = slots[hit, _SHORTER]
        num_found = sort_distinct(found, first, num_found)
    found_offsets[valid.size] = num_found
    return found[:num_found], found_offsets


def match(automaton: Automaton, texts: pa.Array, reading: Reading) -> pa.ListArray:
    """For each text, spaced as `reading` says and put between two spaces, the sorted distinct ids of all entries that
    occur in it; null for null."""
    offsets, data, valid = text_buffers(texts)
    found, found_offsets = _match(automaton.slots, reading.kinds, data, offsets, valid)
    return pa.ListArray.from_arrays(pa.array(found_offsets), pa.array(found), mask=pa.array(~valid))
