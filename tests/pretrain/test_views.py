"""Stored views: the student sees what the teacher saw, with what the teacher said of it."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch
from PIL import Image
from tiny import config, loader_of, sample, write_version

from curation.augmentations import augmented, drawn_parameters
from curation.media.decode import Decoder
from curation.signals.augmented_image_embedding import AugmentedImageEmbedding
from pretrain.config import ConfigError, TrainConfig
from pretrain.engine import Engine
from pretrain.objective import Objective
from pretrain.preflight import check_run
from pretrain.streamed import PictureReader
from pretrain.version import Version
from tests.curation.signal_rows import drawing
from tests.pipelines.patch_scorer import DIM, PatchScorer

pytestmark = pytest.mark.family("F06")
VIEWS, SIDE, NUM = 4, 32, 20
TEACHER = f"{PatchScorer.__module__}.{PatchScorer.__qualname__}"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A version whose pictures a teacher saw in four views each, as the signal stores them."""
    samples = [sample(number) for number in range(NUM)]
    signal = AugmentedImageEmbedding(model="m", scorer=TEACHER, views=VIEWS)
    with Decoder() as decoder:
        found = signal.compute_images([decoder.decode(each["image"]).pixels for each in samples]).to_pylist()
    for each, row in zip(samples, found, strict=True):
        each |= row
        for text in each["texts"]:
            text["teacher_text"] = PatchScorer("m").encode_texts([text["text"]])[0][0].tolist()
    of_texts = pa.struct([*tiny.TEXT, ("teacher_text", pa.list_(pa.float32()))])
    columns = [field for field in tiny.SCHEMA if field.name != "texts"]
    schema = pa.schema([*columns, ("texts", pa.list_(of_texts)), *signal.writes()])
    return write_version(tmp_path_factory.mktemp("taught"), samples, schema=schema)


def settings(**changes: Any) -> TrainConfig:
    distilled = {
        "use": "pretrain.targets.distillation.Distillation",
        "teachers_a": ["clip_augmented_embeddings"],
        "teachers_b": ["texts.teacher_text"],
        "teacher_scale": 10.0,
    }
    views = {"parameters": "clip_augmentations", "embeddings": ["clip_augmented_embeddings"]}
    usual = {"image_size": SIDE, "batch_size": NUM, "views": views, "targets": [distilled]}
    return config(where=[], **{**usual, **changes})


def test_the_student_sees_what_the_teacher_saw_with_what_it_said(taught: Version, tmp_path: Path) -> None:
    loader = loader_of(taught, tmp_path, settings())
    stored = taught.read(["image", "clip_augmentations", "clip_augmented_embeddings"]).to_pylist()
    teacher, seen = PatchScorer("m"), Counter[int]()
    with Decoder() as decoder:
        pixels = [decoder.decode(row["image"]).pixels for row in stored]
    for step in range(6):
        raw = loader.reader.raw(step)
        (piece,) = loader.ready(step, raw).pieces
        shown = (piece.inputs["image"]["image_BCHW"].permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
        said = piece.columns["clip_augmented_embeddings"][:: loader.reader.captions].numpy()
        assert said.shape == (NUM, DIM)
        assert raw.views_B is not None
        for place, (row, view) in enumerate(zip(raw.rows_B.tolist(), raw.views_B.tolist(), strict=True)):
            parameters = np.array(stored[row]["clip_augmentations"], np.float32).reshape(VIEWS, -1)[view]
            expected = augmented(pixels[row], parameters, SIDE)
            assert np.array_equal(shown[place], expected)
            vectors = np.array(stored[row]["clip_augmented_embeddings"], np.float32).reshape(VIEWS, DIM)
            assert np.array_equal(said[place], vectors[view])
            fresh = teacher.encode_images([shown[place]])[0][0]
            assert fresh @ vectors[view] / np.linalg.norm(vectors[view]) > 0.98  # at 32 px; it saw 224
        seen.update(raw.views_B.tolist())
    assert set(seen) == set(range(VIEWS))
    assert min(seen.values()) > 6 * NUM / VIEWS / 2


def test_views_are_the_same_for_any_workers_and_in_another_process(taught: Version, tmp_path: Path) -> None:
    reader = loader_of(taught, tmp_path, settings()).reader
    whole, again = reader.raw(1), pickle.loads(pickle.dumps(reader)).raw(1)  # noqa: S301  (made here)
    halves = [reader.raw(1, rank, 2) for rank in range(2)]
    for found in (torch.cat([half.pixels_BSSC for half in halves]), again.pixels_BSSC):
        assert torch.equal(whole.pixels_BSSC, found)
    assert np.array_equal(np.concatenate([half.views_B for half in halves]), whole.views_B)
    assert len(pickle.dumps(reader)) < 20_000


def test_distillation_from_views_trains(taught: Version, tmp_path: Path) -> None:
    asked = settings(lr=0.005, steps=30)
    loader = loader_of(taught, tmp_path, asked)
    torch.manual_seed(0)
    objective = Objective(asked.model.build(SIDE), asked)
    engine = Engine(objective, asked, torch.device("cpu"))
    losses = [engine.step(ready, 0.005)[0]["loss"].item() for ready in loader.batches(0, 30)]
    assert np.mean(losses[-5:]) < 0.9 * losses[0]


def test_a_view_of_a_jpeg_at_reduced_scale_is_that_of_the_whole() -> None:
    pixels = drawing(5, 640, 480)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        data = file.getvalue()
    reader = PictureReader(SIDE, "letterbox", "bicubic")
    with Decoder() as decoder:
        whole = decoder.decode(data).pixels
    for parameters in drawn_parameters(pixels, 5, 0.4, 1):
        found, expected = reader.view(data, parameters), augmented(whole, parameters, SIDE)
        assert found is not None
        error = np.square(found.astype(float) - expected).mean()
        assert 10 * np.log10(255**2 / error) > 30
    assert reader.view(b"GIF89a, but not really", parameters) is None


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ({"parameters": "nothing", "embeddings": ["clip_augmented_embeddings"]}, r"views\.parameters = 'nothing'"),
        ({"parameters": "width_px", "embeddings": ["clip_augmented_embeddings"]}, r"'width_px'.*no lists of 7 numbers"),
        (
            {"parameters": "clip_augmentations", "embeddings": ["other"]},
            r"views\.embeddings: no target reads \['other'\]",
        ),
    ],
)
def test_mistakes_are_told(taught: Version, tmp_path: Path, views: dict[str, Any], said: str) -> None:
    def asked() -> None:
        wanted = settings(views=views)
        check_run(wanted, [taught])
        loader_of(taught, tmp_path, wanted)

    with pytest.raises(ConfigError, match=said):
        asked()
