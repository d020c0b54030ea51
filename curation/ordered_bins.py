"""Numbers in bins that keep their order: how order among very many is found without sorting them all."""

from __future__ import annotations

import numpy as np

_BITS = 16
"""Of a number that tell its bin: few of many values share the one that is sorted."""
NUM_BINS = 1 << _BITS


def bins(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """0 to NUM_BINS - 1: the first bits of each value, so turned that a larger value has larger ones; zeros of both
    signs are one. kind: float32 or float64, as which the bits are read."""
    unsigned = np.uint32 if kind == np.float32 else np.uint64
    width = 8 * kind.itemsize
    bits = (values.astype(kind, copy=False) + kind.type(0)).view(unsigned)
    sign = unsigned(1 << (width - 1))
    turned = np.where(bits & sign, ~bits, bits | sign)
    found: np.ndarray = (turned >> unsigned(width - _BITS)).astype(np.int64)
    return found
