"""Which owners of hashes have one within a Hamming radius of another's: the search of `curation.lsh`, with owners."""

from __future__ import annotations

import numpy as np

from curation.compiled import compiled
from curation.hash_bands import (
    bands_of,
    bin_bits,
    bin_of,
    binned,
    bit_distance,
    check_radius,
    choice,
    choices,
    is_first_choice,
    mask_of,
    num_bands_for,
    num_near,
)


def owner_pairs(
    a: np.ndarray, owner_a: np.ndarray, radius: int, b: np.ndarray | None = None, owner_b: np.ndarray | None = None
) -> np.ndarray:
    """Pairs of different owners of which one has a hash (uint64) in `a` within the radius of a hash of the other in `b`
    (in `a` too, where b is None): int64 [k, 2], the smaller first, rising, each once. owner_a, owner_b: int32, of each
    hash; rising.

    Frames of one film are near each other, and those of a copy near all of them: pairs of hashes would be many times as
    many, so memory grows with the pairs of owners."""
    check_radius(radius)
    found = np.zeros(0, np.int64)
    if b is not None and owner_b is not None:
        if len(a) > len(b):
            a, owner_a, b, owner_b = b, owner_b, a, owner_a
        num_pairs, num_large = float(len(a)) * len(b), len(b)
    else:
        num_pairs, num_large = len(a) ** 2 / 2, len(a)
    if num_pairs < 1:
        return found.reshape(0, 2)
    bands = bands_of(num_bands_for(len(a), num_large, num_pairs, radius))
    for chosen in choices(len(bands), radius):
        given = bands, choice(chosen), bin_bits(len(a)), np.uint64(radius)
        if b is None or owner_b is None:
            keys = _self_owners(a, owner_a, *given)
        else:
            keys = _cross_owners(a, owner_a, b, owner_b, *given)
        found = np.union1d(found, keys)
    return np.stack([found >> 32, found & 0xFFFFFFFF], axis=1)


@compiled
def _key(one: np.int64, other: np.int64) -> np.int64:
    """Two owners in one number, the smaller first."""
    return (min(one, other) << 32) | max(one, other)


@compiled
def _room(keys: np.ndarray, found: int) -> tuple[np.ndarray, int]:
    """The same keys, each once, with room for as many again, and their number."""
    ordered = np.sort(keys[:found])
    num = 0
    for k in range(found):
        if k == 0 or ordered[k] != ordered[k - 1]:
            ordered[num] = ordered[k]
            num += 1
    made = np.empty(max(1 << 16, 2 * num), np.int64)
    made[:num] = ordered[:num]
    return made, num


@compiled
def _self_owners(
    hashes: np.ndarray, owner: np.ndarray, bands: np.ndarray, chosen: np.ndarray, bits: int, radius: np.uint64
) -> np.ndarray:
    """Keys of the owners of the pairs that `_self_round` would give."""
    begins, ordered, positions = binned(hashes, mask_of(bands, chosen), bits)
    keys, found = np.empty(1 << 16, np.int64), 0
    for each in range(begins.size - 1):
        after = begins[each]  # behind the hashes of one owner, which are near each other and stand together
        for k in range(begins[each], begins[each + 1]):
            value, own = ordered[k], np.int64(owner[positions[k]])
            while after < begins[each + 1] and owner[positions[after]] == own:
                after += 1
            if num_near(value, ordered, after, begins[each + 1], radius) == 0:
                continue
            for other in range(after, begins[each + 1]):
                theirs = np.int64(owner[positions[other]])
                difference = value ^ ordered[other]
                if theirs != own and bit_distance(difference) <= radius and is_first_choice(difference, bands, chosen):
                    if found == keys.size:
                        keys, found = _room(keys, found)
                    keys[found] = _key(own, theirs)
                    found += 1
    keys, found = _room(keys, found)
    return keys[:found]


@compiled
def _cross_owners(
    small: np.ndarray,
    owner_small: np.ndarray,
    large: np.ndarray,
    owner_large: np.ndarray,
    bands: np.ndarray,
    chosen: np.ndarray,
    bits: int,
    radius: np.uint64,
) -> np.ndarray:
    """Keys of the owners of the pairs that `_cross_round` would give."""
    mask = mask_of(bands, chosen)
    begins, ordered, positions = binned(small, mask, bits)
    keys, found = np.empty(1 << 16, np.int64), 0
    for k in range(large.size):
        value, own = large[k], np.int64(owner_large[k])
        each = np.int64(bin_of(value, mask, bits))
        if num_near(value, ordered, begins[each], begins[each + 1], radius) == 0:
            continue
        for other in range(begins[each], begins[each + 1]):
            theirs = np.int64(owner_small[positions[other]])
            difference = value ^ ordered[other]
            if theirs != own and bit_distance(difference) <= radius and is_first_choice(difference, bands, chosen):
                if found == keys.size:
                    keys, found = _room(keys, found)
                keys[found] = _key(own, theirs)
                found += 1
    keys, found = _room(keys, found)
    return keys[:found]
