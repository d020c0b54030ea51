"""Weighted sums of rows of bytes in 16-bit integers: the inner loop of `pretrain.resampling`.

A value is held as 256 times its distance from 128, a weight, -2 to 2, as 16,384 times itself; of their product the
upper 16 bits are kept, 64 times the result. Processors have an instruction for just that, of 16 or 32 values at once
(x86 `pmulhw`). LLVM uses it when it is shown vectors, but not for a loop in Python. Integers give the same on every
machine. The lower bits are cut off, so every other product is taken with its sign changed, and subtracted: that evens
out.

Imports numba: import it where it is called.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from curation.compiled import compiled
from pretrain.resampling import WEIGHT_BITS

_MIDDLE = 128
_VALUE_BITS, _CUT_BITS = 8, 16
_SUM_BITS = _VALUE_BITS + WEIGHT_BITS - _CUT_BITS
_LANES = 32
_BLOCK = 1024
"""Values: with 16 rows of 2 bytes they take 32 KiB of a first cache of 32 to 48."""


@intrinsic  # type: ignore[untyped-decorator]
def _add_weighted(_: Any, sums: Any, rows: Any, weights: Any, at: Any) -> Any:
    """To sums[at : at + _LANES] add rows[i][at : at + _LANES] * weights[i]; subtract it where i is odd. All int16."""

    def generate(lowering: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, wide = ir.VectorType(ir.IntType(16), _LANES), ir.VectorType(ir.IntType(32), _LANES)
        first = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
        shift = ir.Constant(wide, [_CUT_BITS] * _LANES)
        nothing = ir.Constant(lanes, ir.Undefined)

        def pointer(kind: Any, array: Any) -> Any:
            data = lowering.make_array(kind)(lowering, builder, array).data
            return builder.bitcast(builder.gep(data, [arguments[3]]), lanes.as_pointer())

        def loaded(place: Any) -> Any:
            found = builder.load(place)
            found.align = 2
            return found

        place = pointer(signature.args[0], arguments[0])
        total = loaded(place)
        for i in range(signature.args[1].count):
            row = loaded(pointer(signature.args[1].dtype, builder.extract_value(arguments[1], i)))
            weight = builder.insert_element(nothing, builder.extract_value(arguments[2], i), ir.IntType(32)(0))
            everywhere = builder.shuffle_vector(weight, nothing, first)
            product = builder.mul(builder.sext(row, wide), builder.sext(everywhere, wide))
            product = builder.trunc(builder.lshr(product, shift), lanes)
            total = builder.sub(total, product) if i % 2 else builder.add(total, product)
        builder.store(total, place).align = 2
        return lowering.get_dummy_value()

    return types.void(sums, rows, weights, at), generate


@compiled
def combine(rows_HN: np.ndarray, first: int, starts: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """out[i] = the rows from starts[i] on, each from its value `first` on, weighted by weights[i], rounded and cut to 0
    to 255. rows_HN, out: uint8. starts: ascending. weights: int16, 2 ** WEIGHT_BITS times what they
    stand for; they add up to 1, and those of rows behind the last are 0.

    Block by block of values, so that the last rows, each widened once, stay in the processor's first cache; four rows
    at a time, so that the sums are read and written a quarter as often.
    """
    num_taps = weights.shape[1]
    num_kept = 1
    while num_kept < num_taps:
        num_kept *= 2
    last = num_kept - 1  # row r is kept at r & last
    kept = np.zeros((num_kept, _BLOCK), np.int16)
    sums = np.empty(_BLOCK, np.int16)
    for left in range(0, out.shape[1], _BLOCK):
        num = min(_BLOCK, out.shape[1] - left)
        ready = starts[0]
        for place in range(out.shape[0]):
            start, of = starts[place], weights[place]
            while ready < min(start + num_taps, len(rows_HN)):
                row = rows_HN[ready, first + left : first + left + num]
                wide = kept[ready & last]
                for x in range(num):
                    wide[x] = (np.int16(row[x]) - _MIDDLE) << _VALUE_BITS
                ready += 1
            sums[:num] = (_MIDDLE << _SUM_BITS) + (1 << _SUM_BITS - 1)  # half of a level, for rounding
            tap = 0
            while tap + 3 < num_taps:
                at = start + tap
                rows = kept[at & last], kept[(at + 1) & last], kept[(at + 2) & last], kept[(at + 3) & last]
                of_rows = of[tap], np.int16(-of[tap + 1]), of[tap + 2], np.int16(-of[tap + 3])
                for x in range(0, num, _LANES):
                    _add_weighted(sums, rows, of_rows, x)
                tap += 4
            while tap < num_taps:
                for x in range(0, num, _LANES):
                    _add_weighted(sums, (kept[(start + tap) & last],), (of[tap],), x)
                tap += 1
            made = out[place, left : left + num]
            for x in range(num):
                made[x] = np.uint8(min(255, max(0, sums[x] >> _SUM_BITS)))
