"""Near-duplicates: copies of drawings are found, look-alikes are not.

The constants of `curation.near_duplicates` come from the Tux Paint stamps, which are not here; these drawings are in
their manner (shapes on one ground, letters, coins), so that a change which breaks the behaviour shows.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from curation.components import connected_components
from curation.near_duplicates import (
    KINDS,
    NearDuplicates,
    block_difference,
    confirm,
    confirm_crop,
    mirrored,
    near_duplicates,
    thumbnail_array,
)
from curation.signals.perceptual_hash import PerceptualHash
from tests.curation.signal_rows import drawing

NUM_DRAWINGS = 40
COPIES = ("exact", "jpeg60", "resize70", "watermark", "crop5", "mirror")
RECALL = {"exact": 1.0, "jpeg60": 0.99, "resize70": 0.99, "watermark": 0.95, "crop5": 0.9, "mirror": 0.95}


def copy(picture: np.ndarray, kind: str, seed: int) -> np.ndarray:
    image = Image.fromarray(picture)
    match kind:
        case "jpeg60":
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=60)
            return np.asarray(Image.open(buffer).convert("RGB"))
        case "resize70":
            size = (round(image.width * 0.7), round(image.height * 0.7))
            return np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        case "watermark":
            stripes = Image.new("L", image.size)
            pen = ImageDraw.Draw(stripes)
            for k in range(6):
                left = image.width * (1 + 3 * k) // 20
                pen.rectangle((left, image.height // 3, left + image.width // 14, image.height // 2), fill=128)
            return np.asarray(Image.composite(Image.new("RGB", image.size, (128, 128, 128)), image, stripes))
        case "crop5":
            cut_x, cut_y = max(1, image.width // 20), max(1, image.height // 20)
            rng = np.random.default_rng(seed)
            left, top = int(rng.integers(cut_x + 1)), int(rng.integers(cut_y + 1))
            return np.asarray(image.crop((left, top, left + image.width - cut_x, top + image.height - cut_y)))
        case "mirror":
            return picture[:, ::-1]
    return picture


def compare(images: list[np.ndarray], radius: int = 8) -> NearDuplicates:
    table = PerceptualHash().compute_images(images)
    crops = np.array(table.column("phash_crops").to_pylist(), np.uint64)
    hashes = [table.column(name).to_numpy() for name in ("phash", "phash_mirror")]
    return near_duplicates(hashes[0], hashes[1], crops, thumbnail_array(table.column("thumbnail")), radius)


def thumbnails(images: list[np.ndarray]) -> np.ndarray:
    return thumbnail_array(PerceptualHash().compute_images(images).column("thumbnail"))


def letter(text: str) -> np.ndarray:
    """A wooden tile with a letter on it: tiles of two letters are look-alikes."""
    picture = Image.new("RGB", (160, 160), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    pen.polygon([(20, 30), (140, 20), (150, 120), (80, 155), (10, 120)], fill=(170, 120, 60))
    pen.line([(20, 30), (80, 60), (140, 20)], fill=(90, 60, 30), width=4)
    pen.text((60, 65), text, fill=(20, 20, 90), font_size=56)
    return np.asarray(picture)


@pytest.fixture(scope="module")
def crowd() -> tuple[list[np.ndarray], list[tuple[int, str]], np.ndarray]:
    """Drawings with one copy of each kind, what each is, and the groups that they fall into."""
    originals = [drawing(seed, 150 + seed % 7 * 20, 110 + seed % 5 * 30) for seed in range(NUM_DRAWINGS)]
    images, labels = list(originals), [(k, "original") for k in range(NUM_DRAWINGS)]
    for kind in COPIES:
        images += [copy(picture, kind, k) for k, picture in enumerate(originals)]
        labels += [(k, kind) for k in range(NUM_DRAWINGS)]
    found = compare(images)
    return images, labels, connected_components(len(images), found.i, found.j)


@pytest.mark.parametrize("kind", COPIES)
def test_recall(crowd: tuple[list[np.ndarray], list[tuple[int, str]], np.ndarray], kind: str) -> None:
    _, labels, groups = crowd
    found = [groups[row] == groups[k] for row, (k, what) in enumerate(labels) if what == kind]
    assert np.mean(found) >= RECALL[kind]


def test_precision(crowd: tuple[list[np.ndarray], list[tuple[int, str]], np.ndarray]) -> None:
    _, labels, groups = crowd
    subject = np.array([k for k, _ in labels])
    assert all(len(set(subject[groups == group])) == 1 for group in set(groups))


def test_kinds_and_distances_say_what_joined_a_pair() -> None:
    picture, other = drawing(0), drawing(1)
    found = compare([picture, other, picture[:, ::-1], picture])
    pairs = {(int(i), int(j)): (KINDS[kind], int(d)) for i, j, d, kind in zip(*found[:2], *found[2:], strict=True)}
    assert pairs == {(0, 3): ("same", 0), (0, 2): ("mirror", 0)}


def test_tiles_with_other_letters_are_candidates_but_not_copies() -> None:
    tiles = [letter(text) for text in "LTKNX"]
    hashes = PerceptualHash().compute_images(tiles).column("phash").to_numpy()
    assert np.bitwise_count(hashes[0] ^ hashes[1:]).min() <= 8
    assert compare(tiles, 12).i.tolist() == []
    copied = [*tiles, *(copy(tile, "jpeg60", 0) for tile in tiles)]
    assert sorted(zip(*compare(copied, 12)[:2], strict=True)) == [(k, k + 5) for k in range(5)]


def test_look_alikes_of_one_hash_do_not_hide_each_others_copies() -> None:
    """Two different pictures with one hash, a copy of each: the copies must find their own picture."""
    a, b = thumbnails([letter("L"), letter("K")])
    stack = np.stack([a, b, a, b])
    same = np.full(4, 12345, np.uint64)
    far = np.full((4, 5), 2**64 - 1 - 12345, np.uint64)
    found = near_duplicates(same, far[:, 0], far, stack)
    assert list(zip(found.i, found.j, strict=True)) == [(0, 2), (1, 3)]


def test_order_changes_no_group(crowd: tuple[list[np.ndarray], list[tuple[int, str]], np.ndarray]) -> None:
    images, _, _ = crowd
    images = images[::4]
    found = compare(images)
    groups = connected_components(len(images), found.i, found.j)
    order = np.random.default_rng(0).permutation(len(images))
    found = compare([images[k] for k in order])
    shuffled = connected_components(len(images), found.i, found.j)
    first = {label: row for row, label in reversed(list(enumerate(shuffled)))}
    assert len(set(shuffled)) == len(set(groups))
    assert all(groups[order[row]] == groups[order[first[label]]] for row, label in enumerate(shuffled))


def test_confirm_is_symmetric_and_allows_a_grey_layer_only() -> None:
    a, b = thumbnails([letter("L"), letter("K")])
    layer = (a // 2 + 64).astype(np.uint8)
    stack_a, stack_b = np.stack([a, a, a]), np.stack([a, b, layer])
    assert confirm(stack_a, stack_b).tolist() == [True, False, True]
    assert np.allclose(block_difference(stack_a, stack_b), block_difference(stack_b, stack_a))
    red = a.copy()
    red[..., 0], red[..., 1] = a[..., 2], a[..., 0]
    assert not confirm(a[None], red[None])[0]


def test_confirm_crop() -> None:
    whole = drawing(4, 200, 150)
    inner, other = whole[5:148, 8:198], drawing(5, 190, 143)
    a, b, c = thumbnails([whole, inner, other])
    assert confirm_crop(np.stack([a, a]), np.stack([b, c])).tolist() == [True, False]


def test_mirrored() -> None:
    a, b = thumbnails([drawing(6), drawing(6)[:, ::-1]])
    assert confirm(mirrored(a[None]), b[None], 1.0)[0]


def test_wrong_input() -> None:
    stack = thumbnails([drawing(0)])
    with pytest.raises(ValueError, match="1 thumbnails against 0"):
        confirm(stack, stack[:0])
    with pytest.raises(ValueError, match="null"):
        thumbnail_array(PerceptualHash().compute_images([None]).column("thumbnail"))


def test_nothing_to_compare() -> None:
    none = np.zeros(0, np.uint64)
    found = near_duplicates(none, none, np.zeros((0, 5), np.uint64), np.zeros((0, 32, 32, 3), np.uint8))
    assert [len(column) for column in found] == [0, 0, 0, 0]


def test_a_crowd_of_one_hash_is_joined_round_by_round() -> None:
    """More versions of one picture than are compared all with all, and two other pictures that share their hash."""
    a, b, c = thumbnails([letter("L"), letter("K"), drawing(9)])
    rng = np.random.default_rng(0)
    noisy = np.clip(a + rng.integers(-2, 3, (400, *a.shape)), 0, 255).astype(np.uint8)
    stack = np.concatenate([noisy, b[None], c[None], b[None]])
    order = rng.permutation(len(stack))
    same, far = np.full(len(stack), 7, np.uint64), np.full((len(stack), 5), 2**64 - 8, np.uint64)
    subject = np.array([0] * 400 + [1, 2, 1])[order]
    found = near_duplicates(same, far[:, 0], far, stack[order])
    groups = connected_components(len(stack), found.i, found.j)
    assert [len(set(groups[subject == k])) for k in range(3)] == [1, 1, 1]
    assert len(set(groups)) == 3
    assert len(found.i) < 1000
