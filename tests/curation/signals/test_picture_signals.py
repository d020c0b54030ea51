"""Signals of pictures: hashes, statistics, probe."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation.signals.content_hash import pixel_hash
from curation.signals.perceptual_hash import PerceptualHash, hash_bits
from curation.signals.picture_statistics import PictureStatistics
from curation.signals.probe import Probe
from curation.thumbnails import SCALE, area_average, shrunk
from tests.curation.signal_rows import drawing


def dull_average(image: np.ndarray, side_px: int) -> np.ndarray:
    """Every pixel cut into as many pieces as there are areas, then averaged."""
    pieces = np.repeat(np.repeat(image.astype(np.float64), side_px, axis=0), side_px, axis=1)
    return pieces.reshape(side_px, image.shape[0], side_px, image.shape[1], 3).mean(axis=(1, 3))


@pytest.mark.parametrize("shape", [(8, 8), (13, 15), (1, 1), (3, 500), (100, 70), (200, 333), (511, 600)])
def test_area_average_is_exact_where_no_blocks_are_made(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert np.abs(area_average(image, 8) / SCALE - dull_average(image, 8)).max() <= 0.5 / SCALE + 1e-9


@pytest.mark.parametrize("shape", [(512, 512), (513, 700), (1111, 800)])
def test_area_average_is_close_where_blocks_are_made(shape: tuple[int, int]) -> None:
    image = drawing(7, shape[1], shape[0])
    error = np.abs(area_average(image, 8) / SCALE - dull_average(image, 8))
    assert error.mean() <= 0.5
    assert error.max() <= 3.0


def test_shrunk_averages_blocks() -> None:
    averages = area_average(drawing(1, 128, 128))
    assert np.array_equal(shrunk(averages, 64), np.rint(averages / SCALE).astype(np.uint8))
    assert np.abs(shrunk(averages, 16).mean() - averages.mean() / SCALE) < 0.5


def test_phash_against_the_textbook() -> None:
    """Bits are those of an ordinary pHash wherever a coefficient is not near the median."""
    image = drawing(3, 128, 128)
    gray = np.asarray(Image.fromarray(image).reduce(4), np.float64) @ [0.299, 0.587, 0.114]
    k, x = np.arange(8)[:, None], np.arange(32)[None]
    cosines = np.cos(np.pi * k * (2 * x + 1) / 64)
    flat = (cosines @ gray @ cosines.T).ravel()
    spread = np.sqrt((flat[1:] ** 2).mean())
    textbook, clear = flat > np.median(flat), np.abs(flat - np.median(flat)) > 0.1 * spread
    phash = PerceptualHash().compute_images([image]).column("phash")[0].as_py()
    bits = np.array([phash >> (63 - n) & 1 for n in range(64)], bool)
    assert clear.sum() > 40
    assert np.array_equal(bits[clear], textbook[clear])


def test_mirror_hash_is_the_hash_of_the_mirror() -> None:
    for seed in range(10):
        image = drawing(seed, 128, 256)
        straight, turned = PerceptualHash().compute_images([image, image[:, ::-1]]).to_pylist()
        assert straight["phash_mirror"] == turned["phash"]
        assert turned["phash_mirror"] == straight["phash"]


def test_window_hashes_are_near_the_hashes_of_the_windows() -> None:
    image = drawing(5, 200, 200)
    windows = [image[:190, :190], image[:190, 10:], image[10:, :190], image[10:, 10:], image[5:195, 5:195]]
    table = PerceptualHash().compute_images([image, *windows])
    phash = table.column("phash").to_pylist()
    inner = table.column("phash_crops")[0].as_py()
    assert [(a ^ b).bit_count() <= 3 for a, b in zip(inner, phash[1:], strict=True)] == [True] * 5


def test_blank_pictures_have_no_hash_but_a_thumbnail() -> None:
    rng = np.random.default_rng(0)
    nearly = rng.integers(199, 202, (90, 120, 3), dtype=np.uint8)
    (row,) = PerceptualHash().compute_images([nearly]).to_pylist()
    assert (row["phash"], row["phash_mirror"], row["phash_crops"]) == (None, None, None)
    assert len(row["thumbnail"]) == 32 * 32 * 3


def test_hash_bits_come_in_reading_order() -> None:
    coefficients = np.full((1, 8, 8), -1.0)
    coefficients[0, 0, 0], coefficients[0, 7, 7] = 100.0, 100.0
    assert hash_bits(coefficients).tolist() == [(1 << 63) | 1]


def test_picture_statistics() -> None:
    half = np.zeros((10, 20, 3), np.uint8)
    half[:, 10:] = 255
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    first, second, _ = PictureStatistics().compute_images([half, noise, None]).to_pylist()
    assert first == {
        "luminance_entropy_bits": 1.0, "luminance_mean": 127.5, "luminance_std": 127.5, "share_top_color": 0.5,
    }  # fmt: skip
    assert second["luminance_entropy_bits"] > 7
    assert second["share_top_color"] < 0.01


def test_pixel_hash_is_of_shape_and_pixels() -> None:
    image = drawing(0)
    assert pixel_hash(image) == pixel_hash(image[:, ::-1][:, ::-1]) != pixel_hash(image[:, ::-1])
    flat = np.zeros((2, 8, 3), np.uint8)
    assert pixel_hash(flat) != pixel_hash(flat.reshape(4, 4, 3))


def test_probe() -> None:
    rows = pa.table(
        {
            "width_px": pa.array([200, 1, 70_000, 100, 0, None], pa.int32()),
            "height_px": pa.array([100, 3, 70_000, None, 10, None], pa.int32()),
            "size_bytes": pa.array([5000, None, 1, 5, 5, 5], pa.int64()),
        }
    )
    table = Probe().compute(rows)
    assert table.column("aspect_ratio").to_pylist() == [2.0, 3.0, 1.0, None, None, None]
    assert table.column("short_side_px").to_pylist() == [100, 1, 70_000, None, None, None]
    assert table.column("megapixels").to_pylist() == pytest.approx([0.02, 3e-6, 4900.0, None, None, None])
    assert table.column("bytes_per_pixel").to_pylist()[:2] == [0.25, None]
