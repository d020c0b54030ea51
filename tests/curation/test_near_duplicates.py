"""Near-duplicates: copies of drawings are found, look-alikes are not.

The constants of `curation.thumbnail_match` come from the Tux Paint stamps, which are not here; these drawings are in
their manner (shapes on one ground, letters, coins), so that a change which breaks the behaviour shows.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from curation.components import connected_components
from curation.near_duplicates import (
    MAX_LIGHTS_APART,
    Bucket,
    Hashes,
    NearDuplicates,
    entries_of,
    merged,
    search,
)
from curation.signals.perceptual_hash import PerceptualHash
from curation.thumbnail_match import DIFFERENT, KINDS, SURE, WITH_CAPTION, thumbnail_array, verdict
from tests.curation.in_memory import near_duplicates
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


def measured(images: list[np.ndarray]) -> tuple[Hashes, np.ndarray]:
    """Hashes and thumbnails of pictures."""
    table = PerceptualHash().compute_images(images)
    color = table.column("phash_color").combine_chunks()
    crops = np.array(table.column("phash_crops").to_pylist(), np.uint64).reshape(len(images), -1)
    phash, mirror = (table.column(name).to_numpy() for name in ("phash", "phash_mirror"))
    has_color = color.is_valid().to_numpy(zero_copy_only=False)
    hashes = Hashes(phash, color.fill_null(0).to_numpy(), has_color, mirror, crops)
    return hashes, thumbnail_array(table.column("thumbnail"))


def compare(images: list[np.ndarray], radius: int = 8, captions: bool = True) -> NearDuplicates:
    """Pairs of pictures, all of one caption or without captions."""
    hashes, small = measured(images)
    found = near_duplicates(hashes, lambda rows: small[rows], radius)
    chosen = found.verdict >= (WITH_CAPTION if captions else SURE)
    return NearDuplicates(*(column[chosen] for column in found))


def thumbnails(images: list[np.ndarray]) -> np.ndarray:
    return measured(images)[1]


def letter(text: str) -> np.ndarray:
    """A wooden tile with a letter on it before a coloured sky: tiles of two letters are look-alikes."""
    picture = Image.new("RGB", (160, 160), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    for k in range(8):
        pen.rectangle((0, 20 * k, 160, 20 * k + 20), fill=(250 - 30 * k, 250 - 12 * k, 90 + 20 * k))
    pen.polygon([(20, 30), (140, 20), (150, 120), (80, 155), (10, 120)], fill=(170, 120, 60))
    pen.line([(20, 30), (80, 60), (140, 20)], fill=(90, 60, 30), width=4)
    pen.text((60, 65), text, fill=(20, 20, 90), font_size=56)
    return np.asarray(picture)


def plain_letter(text: str) -> np.ndarray:
    """A letter and nothing else: a picture of few colours."""
    picture = Image.new("RGB", (120, 120), (255, 255, 255))
    ImageDraw.Draw(picture).text((36, 12), text, fill=(0, 0, 0), font_size=90)
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
    pairs = {(int(i), int(j)): (KINDS[kind], int(d)) for i, j, d, kind in zip(*found[:4], strict=True)}
    assert pairs == {(0, 3): ("same", 0), (0, 2): ("mirror", 0), (2, 3): ("mirror", 0)}


def test_tiles_with_other_letters_are_candidates_but_not_copies() -> None:
    tiles = [letter(text) for text in "LTKNX"]
    hashes = PerceptualHash().compute_images(tiles).column("phash").to_numpy()
    assert np.bitwise_count(hashes[0] ^ hashes[1:]).min() <= 8
    assert compare(tiles, 12, captions=False).i.tolist() == []
    copied = [*tiles, *(copy(tile, "jpeg60", 0) for tile in tiles)]
    assert sorted(zip(*compare(copied, 12, captions=False)[:2], strict=True)) == [(k, k + 5) for k in range(5)]


def alike(small: np.ndarray, value: int) -> Hashes:
    """Hashes of looks that have one hash, and no other near it."""
    same, far = np.full(len(small), value, np.uint64), np.full(len(small), ~np.uint64(value), np.uint64)
    return Hashes(same, same, np.zeros(len(small), bool), far, np.stack([far] * 5, axis=1))


def test_look_alikes_of_one_hash_do_not_hide_each_others_copies() -> None:
    """Two different pictures with one hash, a copy of each: the copies must find their own picture."""
    a, b = thumbnails([letter("L"), letter("K")])
    stack = np.stack([a, b, a, b])
    found = near_duplicates(alike(stack, 12345), lambda rows: stack[rows])
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


def test_nothing_to_compare() -> None:
    hashes, small = measured([drawing(0)])
    none = Hashes(*(column[:0] for column in hashes))
    assert [len(column) for column in near_duplicates(none, lambda rows: small[rows])] == [0] * 5


def dull(hashes: Hashes, small: np.ndarray, radius: int) -> list[tuple[int, ...]]:
    """All with all, by the definition: the best of the kinds whose hashes are within the radius."""
    found = []
    for i in range(len(small)):
        for j in range(i + 1, len(small)):
            a, b = small[i][None], small[j][None]
            apart = {
                ("same", i, j): (hashes.own[i] ^ hashes.own[j]).item().bit_count(),
                ("mirror", i, j): min(
                    (hashes.mirror[x] ^ hashes.own[y]).item().bit_count() for x, y in ((i, j), (j, i))
                ),
                ("crop", i, j): min((crop ^ hashes.own[j]).item().bit_count() for crop in hashes.crops[i]),
                ("crop", j, i): min((crop ^ hashes.own[i]).item().bit_count() for crop in hashes.crops[j]),
            }
            if hashes.has_color[i] and hashes.has_color[j] and apart["same", i, j] <= MAX_LIGHTS_APART:
                apart["color", i, j] = (hashes.color[i] ^ hashes.color[j]).item().bit_count()
            said = [
                (-int(verdict(kind, *((a, b) if x < y else (b, a)))[0]), KINDS.index(kind), distance)
                for (kind, x, y), distance in apart.items()
                if distance <= radius
            ]
            best = min(said, default=(DIFFERENT, 0, 0))
            if best[0] != DIFFERENT:
                found.append((i, j, best[2], best[1], -best[0]))
    return found


@pytest.fixture(scope="module")
def mixed() -> tuple[Hashes, np.ndarray]:
    """A few drawings and letters with their copies, in no order."""
    originals = [drawing(0, 90, 110), drawing(1, 90, 110), *(letter(text) for text in "bdL")]
    images = originals + [copy(picture, kind, k) for k, picture in enumerate(originals) for kind in COPIES[1:]]
    images += [plain_letter("b"), plain_letter("d")]
    order = np.random.default_rng(3).permutation(len(images))
    return measured([images[k] for k in order])


def as_rows(found: NearDuplicates) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in found), strict=True))


def test_pairs_against_the_definition(mixed: tuple[Hashes, np.ndarray]) -> None:
    hashes, small = mixed
    for radius in (3, 8):
        assert as_rows(near_duplicates(hashes, lambda rows: small[rows], radius)) == dull(hashes, small, radius)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.booleans(), min_size=32, max_size=32), st.integers(1, 3), st.sampled_from([2, 8]))
def test_buckets_and_parts_change_no_pair(
    mixed: tuple[Hashes, np.ndarray], is_new: list[bool], num_groups: int, radius: int
) -> None:
    """Old pairs, and the pairs of what is new in each bucket, are the pairs of all at once."""
    hashes, small = mixed
    entries = entries_of(hashes)
    new = np.array(is_new)[entries.row]
    first, second = entries.where(new), entries.where(~new)
    found = [search(second, None, lambda rows: small[rows], radius)]
    for band in range(radius + 1):
        for group in range(num_groups):
            bucket = Bucket(radius + 1, band, num_groups, group)
            found.append(search(first, None, lambda rows: small[rows], radius, bucket))
            found.append(search(first, second, lambda rows: small[rows], radius, bucket))
    assert as_rows(merged(found)) == as_rows(near_duplicates(hashes, lambda rows: small[rows], radius))
