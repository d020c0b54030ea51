"""Verdicts on thumbnails: what counts as a copy, what needs a witness, and what explains a difference."""

from __future__ import annotations

import numpy as np
import pytest

from curation.signals.perceptual_hash import PerceptualHash
from curation.thumbnail_match import (
    DIFFERENT,
    MIN_DETAIL_BITS,
    SURE,
    WITH_CAPTION,
    block_difference,
    crop_difference,
    detail,
    mirrored,
    thumbnail_array,
    verdict,
)
from tests.curation.signal_rows import drawing
from tests.curation.test_near_duplicates import letter, plain_letter, thumbnails


def test_the_difference_is_symmetric_and_allows_a_grey_layer_only() -> None:
    a, b = thumbnails([letter("L"), letter("K")])
    layer = (a // 2 + 64).astype(np.uint8)
    stack_a, stack_b = np.stack([a, a, a]), np.stack([a, b, layer])
    difference = block_difference(stack_a, stack_b)
    assert difference[0] == 0
    assert difference[1] > 14
    assert difference[2] < 2
    assert np.array_equal(difference, block_difference(stack_b, stack_a))
    red = a.copy()
    red[..., 0], red[..., 1] = a[..., 2], a[..., 0]
    assert verdict("same", a[None], red[None]).tolist() == [DIFFERENT]


def test_block_difference_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    b = np.clip(a * 0.7 + rng.integers(0, 60, a.shape), 0, 255).astype(np.uint8)
    found = []
    for below, above in ((a[0].astype(float), b[0].astype(float)), (b[0].astype(float), a[0].astype(float))):
        for gray in (0.0, 128.0, 255.0):
            towards = gray - below
            opacity = ((above - below) * towards).sum(-1) / np.maximum((towards**2).sum(-1), 1)
            rest = above - below - np.clip(opacity, 0, 0.6)[..., None] * towards
            found.append(np.sqrt((rest**2).reshape(4, 8, 4, 8, 3).mean(axis=(1, 3, 4)).max()))
    assert block_difference(a, b)[0] == pytest.approx(min(found))
    assert block_difference(a, b, min(found) - 0.01)[0] == np.inf


def test_crop() -> None:
    whole = drawing(4, 200, 150)
    a, b, c = thumbnails([whole, whole[5:148, 8:198], drawing(5, 190, 143)])
    assert verdict("crop", np.stack([a, a]), np.stack([b, c])).tolist() == [SURE, DIFFERENT]
    assert crop_difference(a[None], b[None])[0] < 6 < crop_difference(b[None], a[None])[0]


def test_mirrored() -> None:
    a, b = thumbnails([drawing(6), drawing(6)[:, ::-1]])
    assert block_difference(mirrored(a[None]), b[None])[0] < 1
    assert verdict("mirror", a[None], b[None]).tolist() == [SURE]


def test_pictures_of_few_colours_need_a_witness() -> None:
    """b and d are each other's mirror image, l and I the same stroke: no pixel tells them apart."""
    b, bar, rich = thumbnails([plain_letter("b"), plain_letter("I"), drawing(0)])
    assert detail(np.stack([b, bar])).max() < MIN_DETAIL_BITS < detail(rich[None])[0]
    assert verdict("mirror", b[None], mirrored(b[None])).tolist() == [WITH_CAPTION]
    assert verdict("same", bar[None], bar[None]).tolist() == [WITH_CAPTION]
    assert verdict("same", rich[None], rich[None]).tolist() == [SURE]


def test_detail_is_the_entropy_of_colours() -> None:
    four = np.zeros((1, 32, 32, 3), np.uint8)
    four[:, :16, :, 0], four[:, :, :16, 1] = 255, 255
    assert detail(four).tolist() == [2.0]
    assert detail(np.full((1, 32, 32, 3), 77, np.uint8)).tolist() == [0.0]


def test_wrong_input() -> None:
    stack = thumbnails([drawing(0)])
    with pytest.raises(ValueError, match="1 thumbnails against 0"):
        block_difference(stack, stack[:0])
    with pytest.raises(ValueError, match="null"):
        thumbnail_array(PerceptualHash().compute_images([None]).column("thumbnail"))
