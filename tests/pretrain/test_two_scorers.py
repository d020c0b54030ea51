"""Several architectures side by side in one recipe, under their own names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from curation.scorers import cached_scorer
from curation.signals.image_embedding import ImageEmbedding
from curation.signals.text_embedding import TextEmbedding
from curation.table import read_part
from pipelines.recipe import load_recipe
from tests.stores import Served, links_file, recipe, run

VISION = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


def folder(place: Path, dim: int, side: int) -> str:
    """A small architecture with weights in a local folder, as the hub has them."""
    vision = {**VISION, "image_size": side}
    torch.manual_seed(dim)
    clip = open_clip.CLIP(dim, CLIPVisionCfg(**vision), CLIPTextCfg(**TEXT))
    place.mkdir()
    settings = {"model_cfg": {"embed_dim": dim, "vision_cfg": vision, "text_cfg": TEXT}, "preprocess_cfg": {}}
    (place / "open_clip_config.json").write_text(json.dumps(settings))
    torch.save(clip.state_dict(), place / "open_clip_pytorch_model.bin")
    return f"local-dir:{place}"


def test_two_models_score_one_pool(tmp_path: Path, served: Served) -> None:
    models = {"small": folder(tmp_path / "small", 16, 32), "wide": folder(tmp_path / "wide", 24, 48)}
    signals = [{"use": "curation.signals.text_hygiene.TextHygiene"}, {"use": "curation.signals.probe.Probe"}]
    for name, model in models.items():
        for use in ("image_embedding.ImageEmbedding", "text_embedding.TextEmbedding"):
            signals.append({"use": f"curation.signals.{use}", "name": name, "model": model})
        signals.append({"use": "curation.signals.clip_score.ClipScore", "name": name})
    path = recipe(
        tmp_path / "r.yaml",
        signals=signals,
        duplicates={"exact": ["sha256"], "perceptual": False},
        policy=[{"rule": "agree", "keep": "abs(small_score) <= 1 and abs(wide_score) <= 1"}],
        pack={"columns": [], "text_columns": []},
    )
    links = links_file(tmp_path / "l.parquet", [(url, f"picture {i}") for i, url in enumerate(served.pictures[:8])])
    store = tmp_path / "store"
    run(store, path, links)
    found = {}
    for name, dim in (("small", 16), ("wide", 24)):
        parts = [read_part(part) for part in sorted((store / "tables" / f"signal_{name}_score").iterdir())]
        found[name] = [value for part in parts for value in part.column(f"{name}_score").to_pylist()]
        vectors = read_part(next((store / "tables" / f"signal_{name}_image_embedding").iterdir()))
        assert vectors.schema.field(f"{name}_image_embedding").type.list_size == dim
        assert len(list((store / "canaries" / f"{name}_image_embedding").iterdir())) == 1
    assert len(found["small"]) == len(found["wide"]) == 8
    assert all(value is not None for values in found.values() for value in values)
    assert found["small"] != found["wide"]
    keys = {type(signal).__name__ + getattr(signal, "name", ""): signal.key() for signal in load_recipe(path).signals}
    assert len(set(keys.values())) == len(signals)


@pytest.mark.parametrize("make", [ImageEmbedding, TextEmbedding])
def test_the_place_of_the_weights_is_not_in_the_key(tmp_path: Path, make: type[ImageEmbedding]) -> None:
    """The same checkpoint under another path is the same model; other weights are another."""
    first = make(model=folder(tmp_path / "first", 16, 32))
    copied = shutil.copytree(tmp_path / "first", tmp_path / "copied")
    assert make(model=f"local-dir:{copied}").key() == first.key()
    weights = torch.load(copied / "open_clip_pytorch_model.bin", weights_only=True)
    weights["visual.proj"][0, 0] += 1
    torch.save(weights, copied / "open_clip_pytorch_model.bin")
    cached_scorer.cache_clear()
    assert make(model=f"local-dir:{copied}").key() != first.key()
