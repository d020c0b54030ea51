"""Every signal of pictures on pictures of unusual kinds, from their bytes through the decoder: no row is lost, and what
is said of them is what is in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation.media.decode import DecodeLimits
from curation.schema import MEDIA
from curation.signal import FileSignal, ImageSignal
from curation.signals.content_hash import ContentHash
from curation.signals.jpeg_quality import JpegQuality
from curation.signals.perceptual_hash import PerceptualHash
from curation.signals.picture_quality import PictureQuality
from curation.signals.picture_statistics import PictureStatistics
from curation.table import write_part
from pipelines.picture_pass import from_pictures

WIDTH, HEIGHT = 48, 36
RAMP = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
COLOURS = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], axis=-1)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def palette(transparent: int) -> bytes:
    """Two colours, one of which is seen through."""
    image = Image.fromarray((RAMP > 127).astype(np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    return encoded(image, "PNG", transparency=transparent)


def made() -> dict[str, bytes]:
    colours = Image.fromarray(COLOURS)
    see_through = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
    half = colours.copy()
    half.putalpha(128)
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "green", "blue")]
    moving = {"save_all": True, "append_images": frames[1:]}
    sixteen = Image.fromarray(RAMP.astype(np.uint16) * 257)
    return {
        "1 x 1": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
        "1 x 400": encoded(Image.new("RGB", (1, 400), "red"), "PNG"),
        "400 x 1": encoded(Image.new("RGB", (400, 1), "red"), "PNG"),
        "2 x 2": encoded(Image.new("RGB", (2, 2), "red"), "PNG"),
        "all black": encoded(Image.new("RGB", (WIDTH, HEIGHT)), "PNG"),
        "all white": encoded(Image.new("L", (WIDTH, HEIGHT), 255), "JPEG"),
        "all see-through": encoded(see_through, "PNG"),
        "all see-through, WebP": encoded(see_through, "WEBP", lossless=True),
        "half see-through": encoded(half, "PNG"),
        "16 bit grey": encoded(sixteen, "PNG"),
        "8 bit grey": encoded(Image.fromarray(RAMP), "PNG"),
        "1 bit": encoded(Image.fromarray(RAMP > 127), "PNG"),
        "grey and alpha": encoded(Image.merge("LA", [Image.fromarray(RAMP), Image.new("L", (WIDTH, HEIGHT))]), "PNG"),
        "palette": palette(9),
        "palette with alpha": palette(0),
        "cmyk": encoded(colours.convert("CMYK"), "JPEG", quality=95),
        "rgb": encoded(colours, "JPEG", quality=95),
        "animated GIF": encoded(frames[0], "GIF", **moving),
        "animated WebP": encoded(frames[0], "WEBP", lossless=True, **moving),
        "animated PNG": encoded(frames[0], "PNG", **moving),
        "cut off": encoded(colours, "PNG")[:60],
        "no picture": b"<html>not found</html>",
        "nothing": b"",
    }


SIGNALS: list[ImageSignal | FileSignal] = [
    PictureStatistics(), PictureQuality(), PerceptualHash(), ContentHash(), JpegQuality(),
]  # fmt: skip
BROKEN = {"cut off", "no picture", "nothing"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Name of a picture -> all columns of all signals."""
    files = made()
    rows = [dict.fromkeys(MEDIA.names) | {"media_uid": name, "bytes": data} for name, data in files.items()]
    folder: Path = tmp_path_factory.mktemp("nasty")
    path = write_part(folder, 0, "ab" * 32, pa.Table.from_pylist(rows, schema=MEDIA)).path
    tables = from_pictures(path, SIGNALS, DecodeLimits(min_side_px=1, max_aspect=400), 2)
    assert all(table.num_rows == len(files) for table in tables.values())
    lists = [table.to_pylist() for table in tables.values()]
    return {name: {k: v for rows in lists for k, v in rows[n].items()} for n, name in enumerate(files)}


def test_numbers_are_finite_and_within_their_ranges(found: dict[str, dict[str, Any]]) -> None:
    for name, row in found.items():
        for column, value in row.items():
            assert not isinstance(value, float) or np.isfinite(value), (name, column)
        if name in BROKEN:
            assert {column for column, value in row.items() if value is not None} == set(), name
            continue
        assert 0 <= row["luminance_entropy_bits"] <= 8
        assert 0 <= row["luminance_mean"] <= 255
        assert 0 <= row["luminance_std"] <= 127.5
        assert 0 < row["share_top_color"] <= 1
        assert 0 <= row["edge_share"] <= 1
        assert row["sharpness"] >= 0
        assert row["colorfulness"] >= 0
        assert len(row["pixel_hash"]) == 32
        assert len(row["thumbnail"]) == 32 * 32 * 3


@pytest.mark.parametrize("name", ["1 x 1", "1 x 400", "400 x 1", "2 x 2", "all black", "all white", "all see-through",
                                  "all see-through, WebP", "animated PNG", "animated GIF",
                                  "grey and alpha"])  # fmt: skip
def test_pictures_of_one_colour_have_nothing_to_see(found: dict[str, dict[str, Any]], name: str) -> None:
    row = found[name]
    assert row["luminance_entropy_bits"] == pytest.approx(0, abs=1e-6)
    assert (row["luminance_std"], row["sharpness"], row["edge_share"], row["share_top_color"]) == (0, 0, 0, 1)
    assert (row["phash"], row["phash_mirror"]) == (None, None)


def test_what_is_seen_through_is_white(found: dict[str, dict[str, Any]]) -> None:
    assert found["all black"]["luminance_mean"] == 0
    for name in ("all white", "all see-through", "all see-through, WebP", "grey and alpha"):
        assert found[name]["luminance_mean"] == 255, name
    assert found["all see-through"]["pixel_hash"] == found["all see-through, WebP"]["pixel_hash"]
    whole, half = found["rgb"]["luminance_mean"], found["half see-through"]["luminance_mean"]
    assert half == pytest.approx((whole + 255) / 2, abs=2)
    # red seen through, blue not: 29 of 255 levels of blue's luminance and white
    assert found["palette with alpha"]["luminance_mean"] == pytest.approx((255 + 29) / 2, abs=1)
    assert found["palette"]["luminance_mean"] == pytest.approx((76 + 29) / 2, abs=1)


def test_depth_and_colour_model_do_not_change_what_is_seen(found: dict[str, dict[str, Any]]) -> None:
    assert found["16 bit grey"]["pixel_hash"] == found["8 bit grey"]["pixel_hash"]
    assert found["1 bit"]["luminance_entropy_bits"] == pytest.approx(1, abs=0.01)
    for column, most in (("luminance_mean", 3), ("luminance_std", 3), ("colorfulness", 6)):
        assert found["cmyk"][column] == pytest.approx(found["rgb"][column], abs=most), column
    assert (found["cmyk"]["phash"] ^ found["rgb"]["phash"]).bit_count() <= 4


def test_of_moving_pictures_the_first_is_seen(found: dict[str, dict[str, Any]]) -> None:
    for name in ("animated GIF", "animated WebP", "animated PNG"):
        assert found[name]["luminance_mean"] == pytest.approx(76, abs=1), name  # red


def test_only_jpegs_have_their_quality(found: dict[str, dict[str, Any]]) -> None:
    assert {name for name, row in found.items() if row["jpeg_quality"] is not None} == {"all white", "cmyk", "rgb"}
    assert (found["rgb"]["jpeg_quality"], found["cmyk"]["jpeg_quality"], found["all white"]["jpeg_quality"]) == (
        95,
        95,
        75,
    )
