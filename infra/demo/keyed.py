"""Choices by keyed hash: the same key gives the same choice on every machine, in every run and in any order.

The corpus uses no random generator and no clock, so that it can be rebuilt byte for byte.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def digest(*key: object) -> str:
    """16 hexadecimal digits (64 bits) that stand for `key`, whose parts are joined by a separator no caption holds."""
    return hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).hexdigest()


def number(*key: object) -> int:
    """An integer in [0, 2**64)."""
    return int(digest(*key), 16)


def unit(*key: object) -> float:
    """A float in [0, 1): the top 53 bits, which a double holds exactly, so that it never rounds up to 1."""
    return (number(*key) >> 11) / 2.0**53


def between(low: float, high: float, *key: object) -> float:
    """A float in [low, high)."""
    return low + (high - low) * unit(*key)


def pick(options: Sequence[T], *key: object) -> T:
    """One of `options`."""
    return options[number(*key) % len(options)]


def ranked(names: Iterable[str], *key: object) -> list[str]:
    """`names` in hashed order: the first n of them are a sample that only grows with n."""
    return sorted(names, key=lambda name: (digest(*key, name), name))
