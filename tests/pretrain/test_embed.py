"""pretrain/embed.py and curation/models.py: models in use."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import config, spec

from curation.models import Scorer, load_scorer
from pretrain.config import ConfigError, parse_config
from pretrain.embed import TwoTowerScorer
from pretrain.encoders.open_clip_model import OpenClip
from pretrain.objective import Objective
from pretrain.run import RunResult, train

SMALL_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def run(store: Path) -> RunResult:
    return train(config(name="embed", steps=4), store, "serial", progress=lambda _: None)


@pytest.fixture(scope="module")
def scorer(run: RunResult) -> TwoTowerScorer:
    return TwoTowerScorer(run.folder, device="cpu")


def pictures(num: int) -> list[np.ndarray | None]:
    generator = np.random.default_rng(0)
    sides = [(20 + 7 * n, 40 - 3 * n, 3) for n in range(num)]
    return [generator.integers(0, 256, size=side, dtype=np.uint8) for side in sides]


def test_vectors_are_units_and_rows_stand_alone(scorer: TwoTowerScorer) -> None:
    images = pictures(7)
    images[2] = None
    vectors, there = scorer.encode_images(images)
    assert (vectors.shape, vectors.dtype) == ((7, 32), np.float32)
    assert there.tolist() == [True, True, False, True, True, True, True]
    assert not vectors[2].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[there], axis=1), 1, atol=1e-6)
    first, rest = scorer.encode_images(images[:3])[0], scorer.encode_images(images[3:])[0]
    np.testing.assert_allclose(np.concatenate([first, rest]), vectors, atol=1e-6)


def test_texts_of_every_script_and_none(scorer: TwoTowerScorer) -> None:
    texts = ["badi", "", "  ", "ქართული", "日本語の文字", "🐸", None, "x" * 5000, "\ud800"]
    vectors, there = scorer.encode_texts(texts)
    assert there.tolist() == [text is not None for text in texts]
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors[there], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(scorer.encode_texts(texts[3:5])[0], vectors[3:5], atol=1e-6)
    assert scorer.encode_texts([])[0].shape == (0, 32)


def test_a_wrong_picture_is_an_error_of_the_caller(scorer: TwoTowerScorer) -> None:
    with pytest.raises(ValueError, match="uint8"):
        scorer.encode_images([np.zeros((4, 4), dtype=np.uint8)])


def test_digest_is_of_the_weights(run: RunResult, scorer: TwoTowerScorer, store: Path) -> None:
    assert TwoTowerScorer(run.folder, device="cpu").weights_digest == scorer.weights_digest
    assert len(scorer.weights_digest) == 64
    other = train(config(name="embed", steps=5), store, "serial", progress=lambda _: None)
    assert TwoTowerScorer(other.folder, device="cpu").weights_digest != scorer.weights_digest


def test_curation_gets_it_by_import_path(run: RunResult, scorer: TwoTowerScorer) -> None:
    for use in ("pretrain.embed:TwoTowerScorer", "pretrain.embed.TwoTowerScorer"):
        loaded = load_scorer(use, model=str(run.folder), device="cpu")
        assert isinstance(loaded, Scorer)
        assert loaded.weights_digest == scorer.weights_digest
    for wrong in ("pretrain.embed:Nothing", "nowhere.at_all:X", "plain", "pretrain.embed:LAYOUT"):
        with pytest.raises(ValueError, match="import"):
            load_scorer(wrong)
    with pytest.raises(ValueError, match="no scorer"):
        load_scorer("builtins.dict")


def test_folders_and_names_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished run"):
        TwoTowerScorer(tmp_path)
    with pytest.raises(ConfigError, match="ViT-B-32"):
        TwoTowerScorer("ViT-B-3200")
    with pytest.raises(ConfigError, match="no file and no tag"):
        TwoTowerScorer("ViT-B-32@/no/such/file.pt")


def test_a_whole_open_clip_model_is_a_model(store: Path, tmp_path: Path) -> None:
    """Random weights, then a local checkpoint: the same vectors as open_clip's own; and it trains."""
    settings = OpenClip(name="ViT-B-32", options=SMALL_CLIP)
    model = settings.build().eval()
    assert (model.image_size, model.embed_dim, model.fit) == (32, 16, "crop")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        ours = model.encode("image", model.prepare("image", images))
        theirs = model.clip.encode_image(model.normalise(images), normalize=True)
        words = model.encode("text", model.prepare("text", ["a cat", "eine Katze"]))
    torch.testing.assert_close(ours, theirs)
    assert words.shape == (2, 16)
    assert model.trained_log_scale() is None

    file = tmp_path / "clip.pt"
    torch.save(model.clip.state_dict(), file)
    loaded = OpenClip(name="ViT-B-32", pretrained=str(file), options=SMALL_CLIP).build().eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode("image", {"image_BCHW": images}), ours)
    assert loaded.trained_log_scale() == pytest.approx(float(model.clip.logit_scale))

    use = {"use": "pretrain.encoders.open_clip_model.OpenClip", "name": "ViT-B-32", "options": SMALL_CLIP}
    whole = parse_config(spec(name="clip", model=use, image_size=None, steps=2, batch_size=4))
    trained = train(whole, store, "serial", progress=lambda _: None)
    assert TwoTowerScorer(trained.folder, device="cpu").encode_texts(["a cat"])[0].shape == (1, 16)
    started_from = parse_config(spec(model={**use, "pretrained": str(file)}, image_size=None))
    scale = Objective(started_from.model.build(), started_from).get_parameter("targets.0_InfoNCE.log_scale")
    assert scale.item() == pytest.approx(float(model.clip.logit_scale))


def test_configs_survive_pickling() -> None:
    assert pickle.loads(pickle.dumps(config())) == config()  # noqa: S301  (our own bytes)
