"""The quality that a file's tables tell against the quality that its encoder was given."""

from __future__ import annotations

import io
import itertools
import random

import numpy as np
import pytest
from PIL import Image

from curation.jpeg_tables import luminance_table, nearest_quality
from curation.signals.jpeg_quality import JpegQuality
from tests.curation.signal_rows import drawing


def encoded(quality: int, mode: str = "RGB", **options: object) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(drawing(7, 24, 16)).convert(mode).save(file, "JPEG", quality=quality, **options)
        return file.getvalue()


def found(*files: bytes | None) -> list[tuple[int | None, bool | None]]:
    columns = JpegQuality().of_files(files)
    return list(zip(columns["jpeg_quality"], columns["jpeg_tables_are_standard"], strict=True))


@pytest.mark.parametrize("options", [{}, {"mode": "L"}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_every_quality_is_told(options: dict[str, object]) -> None:
    files = [encoded(quality, **options) for quality in range(1, 101)]  # type: ignore[arg-type]
    assert found(*files) == [(quality, True) for quality in range(1, 101)]


def test_tables_that_no_quality_makes_are_estimated() -> None:
    table = luminance_table(encoded(80))
    assert table is not None
    for change in (1, -1):
        other = np.maximum(1, table + change * (np.arange(64) % 3 == 0))
        assert nearest_quality(other) == (80, False)
    with io.BytesIO() as file:
        Image.fromarray(drawing(7, 24, 16)).save(file, "JPEG", qtables=[[8] * 64, [8] * 64])
        ((quality, standard),) = found(file.getvalue())
    assert not standard
    assert quality is not None
    assert 75 <= quality <= 97


def test_the_first_component_decides_whatever_the_order_of_tables() -> None:
    base = encoded(40)
    at = [i for i in range(len(base) - 1) if base[i : i + 2] == b"\xff\xdb"]
    (first, second), size = at, 2 + int.from_bytes(base[at[0] + 2 : at[0] + 4], "big")
    assert second == first + size
    swapped = base[:first] + base[second : second + size] + base[first : first + size] + base[second + size :]
    joined = base[:first] + b"\xff\xdb" + (2 + 2 * 65).to_bytes(2, "big")
    joined += base[first + 4 : first + size] + base[second + 4 : second + size] + base[second + size :]
    filled = base[:first] + b"\xff\xff" + base[first:]
    assert found(swapped, joined, filled) == [(40, True)] * 3


def test_tables_of_sixteen_bits() -> None:
    """Quality 10 without the limit of baseline, as `cjpeg` writes it."""
    base = encoded(10)
    first = base.index(b"\xff\xdb")
    table = np.clip(luminance_table(encoded(50)) * 5, 1, 32_767)  # type: ignore[operator]
    assert table.max() > 255
    wide = b"\xff\xdb" + (3 + 128).to_bytes(2, "big") + b"\x10" + table.astype(">u2").tobytes()
    data = base[:first] + wide + base[first + 69 :]
    assert found(data) == [(10, True)]


def test_other_files_and_broken_ones_have_none() -> None:
    data = encoded(75)
    scan = data.index(b"\xff\xda")
    others = [None, b"", b"\xff\xd8", b"\xff" * 100, b"GIF89a", data[2:], b"\xff\xd8" + b"\xff\xe1\x00\x02" * 5000]
    others += [data[:end] for end in range(data.index(b"\xff\xc0") + 4)]
    assert found(*others) == [(None, None)] * len(others)
    assert found(data[:scan], data[: scan + 4]) == [(None, None), (75, True)]


def test_damage_raises_nothing() -> None:
    rng, data = random.Random(0), encoded(60)
    scan = data.index(b"\xff\xda")
    for _, at in itertools.product(range(3), range(scan)):
        damaged = bytearray(data)
        damaged[at] = rng.randrange(256)
        ((quality, _),) = found(bytes(damaged))
        assert quality is None or 1 <= quality <= 100
