"""`download.image` through the pipeline: what is stored, what it is called, what is packed."""

import hashlib
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.stores import HASTE, Served, last_run, parts_run, recipe, rows, run

IMAGE = {"resize_mode": "center_crop", "image_size": 24, "resize_only_if_bigger": False, "format": "webp"}
MEDIA = (
    "select url, sha256, stored_sha256, size_bytes, image_format, width_px, height_px, original_width_px, "
    "original_height_px, bytes from media where status = 'ok' order by url"
)


@pytest.fixture(scope="module")
def resized(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resized")
    run(root / "store", recipe(root / "r.yaml", download={"fetch": HASTE, "image": IMAGE}), served.links)
    return root / "store"


def test_what_is_stored_is_what_its_columns_say(resized: Path) -> None:
    found = rows(resized, MEDIA)
    assert found
    for row in found:
        stored = bytes(row["bytes"])
        assert hashlib.sha256(stored).hexdigest() == row["stored_sha256"] != row["sha256"]
        assert row["size_bytes"] == len(stored)
        with Image.open(io.BytesIO(stored)) as image:
            assert (image.format, image.size) == ("WEBP", (24, 24))
        assert (row["image_format"], row["width_px"], row["height_px"]) == ("WEBP", 24, 24)
        assert (row["original_width_px"], row["original_height_px"]) != (24, 24)


def test_the_stored_bytes_are_packed(resized: Path) -> None:
    stored = {row["stored_sha256"] for row in rows(resized, MEDIA)}
    packed = [row for path in (resized / "versions").glob("*/*.parquet") for row in pq.read_table(path).to_pylist()]
    assert packed
    for row in packed:
        assert hashlib.sha256(row["image"]).hexdigest() == row["image_sha256"]
        assert row["image_sha256"] in stored


def test_other_output_is_another_part_and_the_default_keeps_bytes(
    served: Served, resized: Path, tmp_path: Path
) -> None:
    again = recipe(tmp_path / "r.yaml", download={"fetch": HASTE, "image": {**IMAGE, "quality": 50}})
    before = {row["url"]: row for row in rows(resized, MEDIA)}
    store = tmp_path / "store"
    run(store, recipe(tmp_path / "plain.yaml"), served.links)
    plain = {row["url"]: row for row in rows(store, MEDIA)}
    assert plain.keys() == before.keys()
    for url, row in plain.items():
        assert row["sha256"] == before[url]["sha256"]
        assert hashlib.sha256(row["bytes"]).hexdigest() == row["stored_sha256"]
        assert (row["width_px"], row["height_px"]) == (row["original_width_px"], row["original_height_px"])
    assert sum(row["sha256"] == row["stored_sha256"] for row in plain.values()) > len(plain) / 2
    run(store, again, served.links)
    assert parts_run(store)["download"] == last_run(store)["stages"][1]["parts_run"] > 0
