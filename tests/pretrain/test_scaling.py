"""pretrain/scaling.py against open_clip's own transforms."""

from __future__ import annotations

import io

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageDraw

from curation.media.decoded import View
from curation.media.views import ViewDecoder
from pretrain.scaling import scaled_square


def drawn(width: int, height: int) -> Image.Image:
    """Sharp edges, which show every difference of a filter."""
    rng = np.random.default_rng(width * height)
    image = Image.new("RGB", (width, height), (230, 220, 90))
    pen = ImageDraw.Draw(image)
    for _ in range(25):
        x, y, side = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(8, 120))
        colour = tuple(rng.integers(0, 256, 3).tolist())
        (pen.ellipse if side % 2 else pen.rectangle)((x, y, x + side, y + side), fill=colour)
    return image


def reference(image: Image.Image, size: int, resize_mode: str, interpolation: str) -> np.ndarray:
    """The uint8 pixels of open_clip's transform, before ToTensor and Normalize."""
    settings = PreprocessCfg(size=size, resize_mode=resize_mode, interpolation=interpolation)
    for step in image_transform_v2(settings, is_train=False).transforms:
        if type(step).__name__.endswith("ToTensor"):
            break
        image = step(image)
    return np.asarray(image)


@pytest.mark.parametrize("shape", [(640, 480), (333, 500), (224, 224), (225, 1000), (100, 90), (1001, 667)])
@pytest.mark.parametrize(("fit", "mode"), [("crop", "shortest"), ("squash", "squash")])
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clip(shape: tuple[int, int], fit: str, mode: str, resample: str) -> None:
    image = drawn(*shape)
    ours = scaled_square(np.asarray(image), 224, fit, resample)  # type: ignore[arg-type]
    theirs = reference(image, 224, mode, resample)
    assert ours.shape == theirs.shape == (224, 224, 3)
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 10
    assert (difference > 1).mean() < 0.001
    assert difference.mean() < 0.02


@pytest.mark.parametrize("shape", [(1400, 1050), (700, 930), (2400, 800)])
def test_of_a_reduced_jpeg_they_are_near(shape: tuple[int, int]) -> None:
    """The crop sits on the very pixel, and what differs is the filter: at least 30 dB on hard edges."""
    buffer = io.BytesIO()
    drawn(*shape).save(buffer, "JPEG", quality=90)
    with ViewDecoder() as decoder:
        decoded = decoder.views(buffer.getvalue(), [View(224, exact=False)])
        assert decoded.views is not None
        assert decoded.views[0].shape[0] < shape[1]
        size = decoded.height_px or 0, decoded.width_px or 0
        ours = scaled_square(decoded.views[0], 224, "crop", "bicubic", size)
    theirs = reference(Image.open(buffer).convert("RGB"), 224, "shortest", "bicubic")
    assert 10 * np.log10(255**2 / ((ours.astype(float) - theirs) ** 2).mean()) > 30


def test_input_is_left_alone_and_a_square_stays() -> None:
    pixels = np.asarray(drawn(300, 200))
    assert not pixels.flags.writeable
    square = scaled_square(pixels, 64, "crop", "bicubic")
    assert np.array_equal(scaled_square(square, 64, "crop", "bicubic"), square)
    assert scaled_square(pixels, 64, "letterbox", "bicubic").shape == (64, 64, 3)
