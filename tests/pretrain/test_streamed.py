"""pretrain/streamed.py: reduced, cut and filtered pictures look like whole ones that Pillow shrinks."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pretrain.streamed import AREA, ASPECT, PictureReader, window, windows


def collage(width: int, height: int, seed: int) -> Image.Image:
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(generator.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, size = (int(each) for each in generator.integers(0, (width, height, width // 3)))
        draw.ellipse((x, y, x + size, y + size), fill=tuple(generator.integers(0, 256, 3).tolist()))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}), **options)
    return buffer.getvalue()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize(("width", "height"), [(900, 640), (300, 420), (500, 500), (60, 90)])
def test_a_whole_picture_is_what_pillow_makes_of_it(width: int, height: int) -> None:
    image = collage(width, height, width)
    for kind in ("JPEG", "PNG"):
        made = PictureReader(64, "squash", "bicubic").read(encoded(image, kind))
        assert made is not None
        assert made.shape == (64, 64, 3)
        assert psnr(made, np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC))) > 27
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        cut = image.crop((left, top, left + side, top + side)).resize((64, 64), Image.Resampling.BICUBIC)
        made = PictureReader(64, "crop", "bicubic").read(encoded(image, kind))
        assert made is not None
        assert psnr(made, np.asarray(cut)) > 27


def test_a_window_is_that_part_of_the_picture() -> None:
    image = collage(800, 600, 3)
    for seed in range(5):
        draws = np.random.default_rng(seed).random(4)
        part = window(600, 800, draws)
        assert AREA[0] * 0.98 <= part.height * part.width <= AREA[1] or part.height == 1 or part.width == 1
        box = (part.left * 800, part.top * 600, (part.left + part.width) * 800, (part.top + part.height) * 600)
        expected = image.resize((96, 96), Image.Resampling.BICUBIC, box=box)
        reader = PictureReader(96, "crop", "bicubic")
        made = reader.read(encoded(image), draws)
        assert made is not None
        assert psnr(made, np.asarray(expected)) > 26


def test_windows_depend_on_sample_epoch_and_seed_and_stay_in_range() -> None:
    samples = np.arange(500, dtype=np.uint64)
    draws = windows(samples, np.zeros(500, dtype=np.int64), 0)
    assert np.array_equal(draws, windows(samples, np.zeros(500, dtype=np.int64), 0))
    for other in (windows(samples, np.ones(500, dtype=np.int64), 0), windows(samples, np.zeros(500, np.int64), 1)):
        assert (other != draws).mean() > 0.99
    assert len(np.unique(draws)) > 1900
    square = [window(1000, 1000, each) for each in draws]
    ratios = np.array([each.width / each.height for each in square])
    assert ratios.min() >= ASPECT[0] - 0.01
    assert ratios.max() <= ASPECT[1] + 0.01
    assert all(each.top + each.height <= 1 + 1e-9 and each.left + each.width <= 1 + 1e-9 for each in square)


def test_a_turned_picture_is_turned_and_damage_is_none() -> None:
    image = collage(120, 80, 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    made = PictureReader(40, "squash", "bilinear").read(encoded(image, exif=exif))
    assert made is not None
    turned = image.transpose(Image.Transpose.ROTATE_270).resize((40, 40), Image.Resampling.BILINEAR)
    assert psnr(made, np.asarray(turned)) > 25
    reader = PictureReader(40, "squash", "bilinear")
    assert reader.read(b"") is None
    assert reader.read(b"\xff\xd8\xff no picture") is None
    grey = reader.read(encoded(image.convert("L")))
    assert grey is not None
    assert (grey[..., 0] == grey[..., 1]).all()
    reader.close()
