"""Faces in a version: blurred in the version alone, counted in its manifest, refused where nobody looked for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.signals.jpeg_quality import JpegQuality
from curation.table import read_part, write_part
from pipelines.recipe import load_recipe
from pipelines.store import Store
from pipelines.yaml_place import RecipeError
from tests.stores import LOOSE, SIGNALS, Served, digests, links_file, recipe, run, tamis

BOXES = pa.list_(pa.list_(pa.float32(), 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Path:
    """A store of six pictures; a signal `faces`, written here, found one or two faces in three, and failed at one."""
    root = tmp_path_factory.mktemp("faces")
    used = [{"use": f"curation.signals.{name}"} for name in [*SIGNALS, "jpeg_quality.JpegQuality"]]
    recipe(root / "r.yaml", LOOSE, signals=used)
    links_file(root / "l.parquet", [(url, f"caption number {i}") for i, url in enumerate(served.pictures[:6])])
    run(root / "store", root / "r.yaml", root / "l.parquet")
    store = Store.open(root / "store")
    state, found = store.state(), [[], [[0.25, 0.25, 0.75, 0.75]], [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1, 1]], None]
    files = []
    for index, path in enumerate(store.files(state, "media")):
        uids = read_part(path, ["media_uid"]).column(0)
        boxes = pa.array([found[n % 4] for n in range(len(uids))], BOXES)
        table = pa.table({"media_uid": uids, "face_boxes": boxes, "reason": pa.nulls(len(uids), pa.string())})
        files.append(store.relative(write_part(store.table("signal_faces"), index, "ab" * 32, table).path))
    state.signals["faces"], state.signal_keys["faces"], state.tables["signal_faces"] = "media", "key of faces", files
    store.save_state(state)
    return root


def select(folder: Path, name: str, policy: list[dict[str, Any]], **pack: Any) -> tuple[int, str]:
    recipe(folder / f"{name}.yaml", LOOSE, pack={"samples_per_shard": 4, **pack})
    (folder / f"{name}.json").write_text(json.dumps({"policy": policy}))
    done = tamis("select", folder / f"{name}.yaml", "--store", folder / "store", "--policy", folder / f"{name}.json",
                 "--name", name)  # fmt: skip
    return done.returncode, done.stderr


def version(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    (found,) = (folder / "store" / "versions").glob(f"{name}-*")
    manifest = json.loads((found / "manifest.json").read_text())
    rows = [row for shard in manifest["shards"] for row in pq.read_table(found / shard["name"]).to_pylist()]
    return manifest, {row["sample_uid"]: row for row in rows}


KNOWN = [*LOOSE, {"rule": "looked_at", "keep": "face_boxes is not null"}]


def test_only_pictures_with_faces_are_encoded_anew_and_only_in_the_version(folder: Path) -> None:
    media = digests(folder / "store" / "tables" / "media")
    assert select(folder, "plain", KNOWN)[0] == 0
    assert select(folder, "blurred", KNOWN, blur_faces={"quality": 80})[0] == 0
    (plain, given), (manifest, found) = version(folder, "plain"), version(folder, "blurred")
    assert set(given) == set(found)
    counts = [row["num_blurred_faces"] for row in found.values()]
    assert sorted(set(counts)) == [0, 1, 2]
    assert manifest["face_blur"] == {
        "boxes": "face_boxes", "quality": 80, "version": 1, "method": "Gaussian, arXiv 2103.06191",
        "num_faces": sum(counts), "num_samples": sum(count > 0 for count in counts),
    }  # fmt: skip
    assert manifest["signals"]["faces"] == "key of faces"
    assert "face_blur" not in plain
    for uid, row in found.items():
        assert hashlib.sha256(row["image"]).hexdigest() == row["image_sha256"]
        assert (row["image"] == given[uid]["image"]) == (row["num_blurred_faces"] == 0)
        assert (row["width_px"], row["height_px"]) == (given[uid]["width_px"], given[uid]["height_px"])
    assert digests(folder / "store" / "tables" / "media") == media
    verified = tamis("verify", folder / "store")
    assert verified.returncode == 0, verified.stdout


def test_signals_of_the_encoded_bytes_come_with_the_pass_over_the_pictures(folder: Path) -> None:
    store = Store.open(folder / "store")
    for media, made in zip(*(store.files(store.state(), t) for t in ("media", "signal_jpeg_quality")), strict=True):
        files = read_part(media, ["bytes"]).column(0).to_pylist()
        assert read_part(made, JpegQuality().writes().names).to_pydict() == JpegQuality().of_files(files)


def test_pictures_in_which_nobody_looked_for_faces_are_refused(folder: Path) -> None:
    status, said = select(folder, "unknown", LOOSE, blur_faces={})
    assert status != 0
    assert "face_boxes is not null" in said
    assert not list((folder / "store" / "versions").glob("unknown-*"))


@pytest.mark.parametrize(("column", "said"), [("nonesuch", "no column 'nonesuch'"), ("width_px", "no column of boxes")])
def test_other_columns_are_refused_before_anything_runs(folder: Path, column: str, said: str) -> None:
    status, error = select(folder, "wrong", KNOWN, blur_faces={"boxes": column})
    assert status != 0
    assert said in " ".join(error.split())
    with pytest.raises(RecipeError, match=said):
        load_recipe(folder / "wrong.yaml")
