"""Updates of a model that is in use: an older index kept (XBT), and weights between the start and the end (F28)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiny import config, sample, spec

from pretrain.build import build_objective, final_tensors
from pretrain.config import ConfigError
from pretrain.embed import TwoTowerScorer
from pretrain.loop import WEIGHTS_FILE
from pretrain.pictures import cached_pictures
from pretrain.run import RunResult, train
from pretrain.stages import parse_stages, train_stages
from pretrain.targets.old_space import in_old_space, load_projection
from pretrain.version import Version

COUNT = 40
LONG = {"steps": 150, "checkpoint_every": 150, "lr": 0.005, "augment": False, "exclude_languages": []}


def silent(_: str) -> None:
    return


def quietly(store: Path, **changes: Any) -> RunResult:
    return train(config(**{**LONG, **changes}), store, "serial", progress=silent)


def recall(texts_TD: np.ndarray, images_ND: np.ndarray) -> float:
    """R@1 of each sample's first caption among all pictures."""
    return float(((texts_TD @ images_ND.T).argmax(axis=1) == np.arange(len(texts_TD))).mean())


def vectors(run: Path, version: Version, store: Path) -> tuple[np.ndarray, np.ndarray]:
    """(pictures, all texts) of a version as a run sees them."""
    scorer = TwoTowerScorer(run, device="cpu")
    pixels, _ = cached_pictures(store / "cache" / "pictures", version, scorer.model.image_size, scorer.model.fit)
    texts = [text["text"] for row in version.read(["texts"]).column(0).to_pylist() for text in row]
    return scorer.encode_squares(pixels), scorer.encode_texts(texts)[0]


@pytest.mark.family("F28")
def test_queries_of_a_new_model_find_what_an_older_index_holds(tmp_path: Path) -> None:
    """F28 (e): a projection learned from texts alone keeps at least 90% of the older model's R@1 on its own index, for
    queries of texts; and pictures, which it never saw, go to themselves, too."""
    samples = [sample(n) for n in range(COUNT)]
    version = tiny.write_version(tmp_path, samples, name="before")
    older = quietly(tmp_path, name="older")
    other = spec()["model"] | {"embed_dim": 24}
    newer = quietly(tmp_path, name="newer", model=other, seed=5)
    index_ND, older_TD = vectors(older.folder, version, tmp_path)
    images_ND, texts_TD = vectors(newer.folder, version, tmp_path)
    for number, each in enumerate(samples):
        for place, text in enumerate(each["texts"]):
            text["older_text"] = older_TD[4 * number + place].tolist()
    of_texts = pa.struct([*tiny.TEXT, ("older_text", pa.list_(pa.float32()))])
    schema = pa.schema([*(field for field in tiny.SCHEMA if field.name != "texts"), ("texts", pa.list_(of_texts))])
    tiny.write_version(tmp_path, samples, name="after", schema=schema)
    target = {"use": "pretrain.targets.old_space.OldSpace", "older_dim": 32}
    stages = [
        {"stage": "projection", "freeze": ["model.*"]},
        {"stage": "adapted", "targets": [{**target, "other": "image"}], "freeze": ["model.*"], "steps": 10,
         "lora": {"layers": ["streams.*"], "rank": 2}, "lr": 0.0005},
    ]  # fmt: skip
    whole = {**spec(**LONG), "name": "kept", "version": "after", "model": other, "targets": [target], "stages": stages}
    whole |= {"init": str(newer.folder)}
    projection, adapted = train_stages(parse_stages(whole), tmp_path, "serial", progress=silent)
    before = recall(older_TD[::4], index_ND)
    assert before > 0.8
    assert recall(texts_TD[::4], images_ND) > 0.8
    assert recall(in_old_space(projection.folder, texts_TD)[::4], index_ND) >= 0.9 * before
    assert recall(in_old_space(projection.folder, images_ND), index_ND) > 10 / COUNT
    frozen, start = (load_file(run.folder / WEIGHTS_FILE) for run in (projection, newer))
    assert all(torch.equal(frozen[name], value) for name, value in start.items() if name.startswith("model."))
    now_ND, now_TD = vectors(adapted.folder, version, tmp_path)
    assert not np.allclose(now_TD, texts_TD)
    assert recall(in_old_space(adapted.folder, now_TD)[::4], in_old_space(adapted.folder, now_ND)) >= 0.8
    for name, value in load_projection(projection.folder).state_dict().items():
        assert torch.equal(load_projection(adapted.folder).state_dict()[name], value)
    with pytest.raises(ValueError, match="0 projections"):
        load_projection(newer.folder)


@pytest.mark.family("F28")
def test_weights_between_the_start_and_the_end(tmp_path: Path) -> None:
    """F28 (d): at 0 and 1 they are the ends, bit for bit."""
    settings = config()
    torch.manual_seed(0)
    trained, start = (settings.model.build(16) for _ in range(2))
    for layer in start.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight)
    from pretrain.checkpoint import save_weights

    save_weights(tmp_path / WEIGHTS_FILE, {f"model.{name}": value for name, value in start.state_dict().items()})
    state = {f"model.{name}": value for name, value in trained.state_dict().items()} | {"targets.0.x": torch.ones(2)}
    left = {share: final_tensors(config(init=str(tmp_path), init_share=share), state) for share in (0.0, 0.25, 1.0)}
    assert all(torch.equal(left[0.0][name], value) for name, value in state.items())
    assert all(torch.equal(left[1.0][f"model.{name}"], value) for name, value in start.state_dict().items())
    for name, value in start.state_dict().items():
        torch.testing.assert_close(left[0.25][f"model.{name}"], 0.25 * value + 0.75 * trained.state_dict()[name])
    assert all(torch.equal(each["targets.0.x"], torch.ones(2)) for each in left.values())
    with pytest.raises(ConfigError, match=r"init_share 0\.5: there is no init"):
        build_objective(settings.model.build(16), config(init_share=0.5))
