"""Keyed randomness: numbers that depend on names and a seed only, never on which worker asks or in what order."""

from __future__ import annotations

import hashlib

import numpy as np

U64 = np.ndarray
"""Arrays of uint64."""


def key(*parts: object) -> np.uint64:
    """64 bits from a BLAKE2b digest of the parts."""
    joined = "\x1f".join(map(str, parts)).encode()
    return np.uint64(int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "big"))


def mix(values: U64, salt: np.uint64) -> U64:
    """A second, independent-looking 64-bit number for each value (the finaliser of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = (values ^ salt) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def uniform(values: U64, salt: np.uint64) -> np.ndarray:
    """A float32 in [0, 1) for each value."""
    return (mix(values, salt) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
