"""Blurred boxes: nothing of them is left, nothing else is touched, whatever the format."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from curation.media.decode import DecodeLimits
from curation.media.face_blur import FaceBlurrer

WIDTH, HEIGHT = 300, 200
BOX = [0.4, 0.4, 0.6, 0.7]
"""120-180, 80-140: a diagonal of 85 pixels, so 8.5 more on each side and a sigma of 8.5."""


@pytest.fixture(scope="module")
def blurrer() -> Iterator[FaceBlurrer]:
    with FaceBlurrer() as made:
        yield made


def stripes() -> np.ndarray:
    """Black and white, two pixels wide each, both ways: no blur leaves them."""
    rows, columns = np.indices((HEIGHT, WIDTH)) // 2
    return np.repeat((((rows + columns) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)


def encoded(pixels: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, format, **options)
        return file.getvalue()


def opened(data: bytes | None) -> np.ndarray:
    assert data is not None
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_inside_all_is_gone_and_far_outside_nothing_changed(blurrer: FaceBlurrer) -> None:
    decoded = blurrer.blurred(encoded(stripes()), [BOX], 95)
    assert (decoded.out_format, decoded.out_width_px, decoded.out_height_px) == ("PNG", WIDTH, HEIGHT)
    found, given = opened(decoded.stored), stripes().astype(int)
    inside = found[72:148, 112:188]
    assert inside.min() > 100
    assert inside.max() < 155
    far = np.ones((HEIGHT, WIDTH), bool)
    far[72 - 27 : 148 + 27, 112 - 27 : 188 + 27] = False
    assert np.array_equal(found[far], given[far])
    assert blurrer.blurred(encoded(stripes()), [BOX], 95).stored == decoded.stored


def test_what_is_finer_than_an_eighth_of_a_box_vanishes(blurrer: FaceBlurrer) -> None:
    """Eyes and mouths are of that size: 8 waves across the box, of nearly full contrast."""
    across = np.arange(WIDTH)
    wave = np.rint(127.5 + 100 * np.sin(across * 2 * np.pi / (60 / 8))).astype(np.uint8)
    pixels = np.repeat(np.tile(wave, (HEIGHT, 1))[..., None], 3, axis=2)
    inside = opened(blurrer.blurred(encoded(pixels), [BOX], 95).stored)[80:140, 120:180]
    assert np.ptp(inside) <= 4  # of 200


def test_every_box_at_every_edge(blurrer: FaceBlurrer) -> None:
    boxes = [[0, 0, 0.1, 0.1], [0.9, 0.9, 1.2, 1.3], [-0.2, 0.5, 0.05, 0.6], [0.5, 0.0, 0.5, 0.0], [0, 0, 1, 1]]
    for box in boxes[:3]:
        found = opened(blurrer.blurred(encoded(stripes()), [box], 95).stored)
        left, top = max(0, round(box[0] * WIDTH)), max(0, round(box[1] * HEIGHT))
        right, bottom = min(WIDTH, round(box[2] * WIDTH)), min(HEIGHT, round(box[3] * HEIGHT))
        assert np.ptp(found[top:bottom, left:right]) < 128
    assert np.ptp(opened(blurrer.blurred(encoded(stripes()), boxes, 95).stored)) < 30
    assert np.array_equal(opened(blurrer.blurred(encoded(stripes()), [], 95).stored), stripes())


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_are_those_of_the_upright_picture(blurrer: FaceBlurrer, orientation: int) -> None:
    upright = {1: stripes(), 3: stripes()[::-1, ::-1], 6: np.rot90(stripes(), 1), 8: np.rot90(stripes(), -1)}
    stored = np.ascontiguousarray(upright[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = blurrer.blurred(encoded(stored, "JPEG", quality=95, exif=exif, subsampling=0), [BOX], 95)
    assert (decoded.out_format, decoded.out_width_px, decoded.out_height_px) == ("JPEG", WIDTH, HEIGHT)
    found = opened(decoded.stored)
    assert np.ptp(found[80:140, 120:180]) < 60
    assert np.ptp(found[:40]) > 200


@pytest.mark.parametrize(("format", "becomes"), [("JPEG", "JPEG"), ("WEBP", "WEBP"), ("GIF", "PNG")])
def test_the_format_stays(blurrer: FaceBlurrer, format: str, becomes: str) -> None:
    decoded = blurrer.blurred(encoded(stripes(), format), [BOX], 90)
    assert decoded.stored is not None
    with Image.open(io.BytesIO(decoded.stored)) as image:
        assert (image.format, decoded.out_format) == (becomes, becomes)


def test_transparency_is_laid_on_white(blurrer: FaceBlurrer) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    assert opened(blurrer.blurred(encoded(pixels), [[0.4, 0.4, 0.6, 0.6]], 90).stored).min() == 255


def test_a_large_face_needs_little_memory(blurrer: FaceBlurrer) -> None:
    pixels = np.zeros((4000, 5000, 3), np.uint8)
    pixels[::2] = 200
    found = blurrer.blurred(encoded(pixels, "JPEG"), [[0.1, 0.1, 0.9, 0.9]], 90)
    assert found.reason is None


def test_what_cannot_be_decoded_has_a_reason(blurrer: FaceBlurrer) -> None:
    broken = encoded(stripes())[:200]
    assert blurrer.blurred(broken, [BOX], 90).reason == "img.truncated"
    assert blurrer.blurred(b"<html>", [BOX], 90).reason == "img.not_image"
    with FaceBlurrer(DecodeLimits(max_pixels=1000)) as small:
        assert small.blurred(encoded(stripes()), [BOX], 90).reason == "img.bomb_pixels"
