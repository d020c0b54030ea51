"""Quantisation tables of a JPEG, and the quality that an encoder was told to make them; nothing is decoded.

Source: ITU-T T.81 (JPEG), B.1.1.3, B.2.2, B.2.4.1 and table K.1; scaling by quality: IJG's libjpeg, `jcparam.c`
(`jpeg_quality_scaling`, `jpeg_add_quant_table`).
"""

from __future__ import annotations

import numpy as np

MAX_SEGMENTS = 1000
"""Segments before the first scan that are looked at: real files have some ten, 64 kB of metadata in each."""
_SOI, _DQT, _SOS, _EOI = b"\xff\xd8", 0xDB, 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the others are DHT, JPG and DAC
_ALONE = frozenset([0x01, *range(0xD0, 0xD8)])  # TEM and RST: markers without a length
_K1 = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""Divisors of the luminance at quality 50."""


def _in_zigzag(table: np.ndarray) -> np.ndarray:
    """(8, 8) -> (64,), along the diagonals, in turn upwards and downwards (T.81, figure 5)."""
    places = sorted(
        ((row, column) for row in range(8) for column in range(8)),
        key=lambda at: (sum(at), at[0] if sum(at) % 2 else -at[0]),
    )
    return np.array([table[at] for at in places])


def _scaled(largest: int) -> np.ndarray:
    """(100, 64): the tables of the qualities 1 to 100, divisors up to `largest`."""
    scales = np.array([5000 // quality if quality < 50 else 200 - 2 * quality for quality in range(1, 101)])
    tables: np.ndarray = np.clip((_in_zigzag(_K1)[None] * scales[:, None] + 50) // 100, 1, largest)
    return tables


_BASELINE, _EXTENDED = _scaled(255), _scaled(32_767)


def luminance_table(data: bytes) -> np.ndarray | None:
    """The 64 divisors of the first component, in the file's zigzag order; None where there are none."""
    if not data.startswith(_SOI):
        return None
    tables: dict[int, np.ndarray] = {}
    wanted: int | None = None
    at = 2
    for _ in range(MAX_SEGMENTS):
        while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] == b"\xff":
            at += 1  # fill bytes
        if at + 4 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in _ALONE:
            at += 2
            continue
        if marker in (_SOS, _EOI):
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : end]
        if end < at + 4 or len(body) < end - at - 4:
            return None
        if marker == _DQT:
            tables |= _tables_of(body)
        elif marker in _FRAMES and len(body) >= 9:
            wanted = body[8]
        at = end
    return None if wanted is None else tables.get(wanted)


def _tables_of(body: bytes) -> dict[int, np.ndarray]:
    """Number -> divisors, of one DQT segment; what is cut off is left out."""
    found, at = {}, 0
    while at < len(body):
        width = 2 if body[at] >> 4 else 1
        values = body[at + 1 : at + 1 + 64 * width]
        if len(values) < 64 * width:
            break
        found[body[at] & 15] = np.frombuffer(values, ">u2" if width == 2 else "u1").astype(np.int64)
        at += 1 + 64 * width
    return found


def nearest_quality(table: np.ndarray) -> tuple[int, bool]:
    """The quality, 1-100, whose table is nearest (sum of absolute differences; the better of two), and whether it is
    that very table."""
    known = _BASELINE if table.max() <= 255 else _EXTENDED
    apart = np.abs(known - table).sum(axis=1)
    quality = 100 - int(np.argmin(apart[::-1]))
    return quality, bool(apart[quality - 1] == 0)
