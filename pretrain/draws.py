"""Random numbers that are hashes: the same for the same keys on every device and with any number of workers."""

from __future__ import annotations

import struct

import torch
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""splitmix64's constants (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators") as int64."""
_DIGITS = 24
"""Binary digits of a draw: those of a float32."""


def uniform(*keys: Tensor | int) -> Tensor:
    """float32 in [0, 1), one for each element of the keys (int64 tensors, or numbers), broadcast against each other."""
    device = next((each.device for each in keys if isinstance(each, Tensor)), None)
    state = torch.zeros((), dtype=torch.int64, device=device)
    for each in keys:
        part = each if isinstance(each, Tensor) else torch.tensor(each, dtype=torch.int64, device=device)
        state = _mix(state * _FIRST + part + _GOLDEN)
    return _shifted(state, 64 - _DIGITS).to(torch.float32) * 2.0**-_DIGITS


def salt_of(done: float) -> int:
    """A signed 64-bit key of a share of training done."""
    bits: int = struct.unpack("<q", struct.pack("<d", done))[0]
    return bits


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, places: int) -> Tensor:
    """Shifted right with zeros coming in (torch's own shift keeps the sign)."""
    return (x >> places) & ((1 << (64 - places)) - 1)
