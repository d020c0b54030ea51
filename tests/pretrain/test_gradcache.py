"""pretrain/gradcache.py and engine.py: gradients in pieces are those of the whole batch, with every kind of target."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
import torch._dynamo.utils
from assembled import FUSIONS, stream
from tiny import spec

from pretrain.build import build_objective
from pretrain.config import ConfigError, TrainConfig, parse_config
from pretrain.dataset import open_data
from pretrain.engine import Engine, checkpoint_blocks
from pretrain.gradcache import backward_in_pieces
from pretrain.loader import Loader, Ready
from pretrain.objective import Objective
from pretrain.version import Version

TRANSFORMER = {
    "embed_dim": 32,
    "streams": {
        "image": {
            "embedding": {"use": "pretrain.embeddings.pictures.Patches", "width": 32, "patch_size": 8},
            "encoder": {"use": "pretrain.encoders.transformer.Transformer", "layers": 2, "heads": 2},
        },
        "text": {
            "embedding": {"use": "pretrain.embeddings.utf8.Utf8Bytes", "width": 32},
            "encoder": {"use": "pretrain.encoders.transformer.Transformer", "layers": 2, "heads": 2},
        },
    },
}
NCE = {"use": "pretrain.targets.info_nce.InfoNCE"}
TARGETS = {
    "info_nce": [{"use": "pretrain.targets.info_nce.InfoNCE"}],
    "siglip_and_queue": [
        {"use": "pretrain.targets.siglip.SigLIP", "chunk_rows": 5},
        {"use": "pretrain.targets.queue.MomentumQueue", "size": 48, "keep": 0.9, "embed_dim": 32},
    ],
    "tokens": [
        {"use": "pretrain.targets.late_interaction.LateInteraction"},
        {"use": "pretrain.targets.shared_tokens.SharedTokens", "num_tokens": 9},
    ],
    "vectors": [
        {"use": "pretrain.targets.one_to_k.OneToK"},
        {"use": "pretrain.targets.rank.RankConsistency"},
        {"use": "pretrain.targets.softened.SoftenedInfoNCE"},
        {"use": "pretrain.targets.soft.SimilarityDistribution"},
        {"use": "pretrain.targets.soft.ContinuouslyWeighted"},
        {"use": "pretrain.targets.separation.IntraModalSeparation"},
        {"use": "pretrain.targets.matryoshka.Matryoshka", "target": NCE, "dims": [8, 32]},
        {"use": "pretrain.targets.binding.Binding", "groups": [["image"]]},
        {"use": "pretrain.targets.graded.Graded", "target": NCE, "column": "texts.clip_score"},
        {"use": "pretrain.targets.harmonised.Harmonised", "targets": [NCE, {"use": "pretrain.targets.siglip.SigLIP"}]},
    ],
}
"""Two captions a picture, so every batch has siblings."""


def prepared(version: Version, store: Path, **changes: Any) -> tuple[Objective, TrainConfig, Ready]:
    config = parse_config(spec(**changes))
    torch.manual_seed(0)
    model = config.model.build(config.image_size)
    data = open_data(config, [str(version.folder)], store / "cache", model)
    objective = build_objective(model, config)
    loader = Loader(data.reader, model, data.columns, config, torch.device("cpu"))
    return objective, config, loader.ready(1, data.reader.raw(1))


def gradients(objective: Objective) -> dict[str, torch.Tensor]:
    return {name: each.grad for name, each in objective.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("name", TARGETS)
def test_gradients_in_pieces_are_those_of_the_whole_batch(version: Version, store: Path, name: str) -> None:
    model = TRANSFORMER if name == "tokens" else spec()["model"]
    objective, _, whole = prepared(version, store, model=model, targets=TARGETS[name])
    objective.set_progress(0.5)  # terms that begin at nothing count, too
    loss = objective(whole.pieces[0])["loss"]
    loss.backward()
    expected = gradients(objective)
    for rows in (4, 16):
        other, _, ready = prepared(version, store, model=model, targets=TARGETS[name], micro_batch=rows)
        other.set_progress(0.5)
        assert len(ready.pieces) == 16 // rows
        losses = backward_in_pieces(other, ready.pieces)
        assert losses["loss"].item() == pytest.approx(loss.item(), abs=1e-6, rel=1e-6)
        found = gradients(other)
        assert found.keys() == expected.keys()
        largest = max(1.0, *(float(value.abs().max()) for value in expected.values()))
        for each, value in expected.items():
            torch.testing.assert_close(found[each], value, atol=1e-6 * largest, rtol=1e-5, msg=each)


def test_a_dropped_unit_is_dropped_in_both_passes(version: Version, store: Path) -> None:
    objective, _, ready = prepared(version, store, micro_batch=4)
    seeds: list[int] = []
    backward_in_pieces(objective, ready.pieces, seeds.append)
    assert seeds == [0, 1, 2, 3, 0, 1, 2, 3]


def test_checkpointed_blocks_have_the_same_gradients(version: Version, store: Path) -> None:
    objective, _, ready = prepared(version, store, model=TRANSFORMER)
    objective(ready.pieces[0])["loss"].backward()
    expected = gradients(objective)
    objective.zero_grad()
    assert checkpoint_blocks(objective.model) == 4
    objective(ready.pieces[0])["loss"].backward()
    for name, value in expected.items():
        torch.testing.assert_close(gradients(objective)[name], value, atol=1e-7, rtol=1e-6, msg=name)
    with pytest.raises(ValueError, match="no row of blocks"):
        checkpoint_blocks(torch.nn.Linear(2, 2))


def test_a_step_changes_weights_and_says_how_long_the_gradient_was(version: Version, store: Path) -> None:
    norms = []
    for changes in ({}, {"micro_batch": 8}):
        objective, config, ready = prepared(version, store, **changes)
        engine = Engine(objective, config, torch.device("cpu"))
        engine.distribute()
        before = [each.clone() for each in objective.parameters()]
        losses, norm = engine.step(ready, 0.01)
        assert any(not torch.equal(a, b) for a, b in zip(before, objective.parameters(), strict=True))
        norms.append((float(losses["loss"].detach()), float(norm)))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_pieces_that_do_not_divide_a_share_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be cut evenly among num_workers 2 in pieces of micro_batch 3"):
        parse_config(spec(micro_batch=3, num_workers=2))


ENCODERS = {
    "vectors": (TRANSFORMER, [NCE]),
    "bags": (spec()["model"], [NCE]),
    "tokens and masks": (
        {
            **TRANSFORMER,
            "streams": {
                "image": stream("image"),
                "text": stream("text"),
            },
            "fusion": FUSIONS["single_stream"],
        },
        [
            {"use": "pretrain.targets.matching.ImageTextMatching"},
            {"use": "pretrain.targets.masked_language.MaskedLanguage"},
            {"use": "pretrain.targets.late_interaction.LateInteraction"},
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_compiled_towers_take_texts_of_every_length(
    version: Version, store: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the targets read goes through the compiler; the lengths of texts change and nothing is compiled anew."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    counted = torch._dynamo.utils.counters["stats"]
    counted.clear()
    model, targets = ENCODERS[name]
    plain, config, _ = prepared(version, store, model=model, targets=targets)
    compiled, _, _ = prepared(version, store, model=model, targets=targets, compile=True)
    made = open_data(config, [str(version.folder)], store / "cache", plain.model)
    loader = Loader(made.reader, plain.model, made.columns, config, torch.device("cpu"))
    graphs = []
    for step in range(5):
        raw = made.reader.raw(step)
        raw.texts = [text * (step + 1) for text in raw.texts]
        found = []
        for each in (plain, compiled):
            each.zero_grad()
            each.set_progress(step / 10)
            loss = each(loader.ready(step, raw).pieces[0])["loss"]
            loss.backward()
            found.append((loss.detach(), gradients(each)))
        torch.testing.assert_close(found[1][0], found[0][0], atol=1e-5, rtol=1e-5)
        for key, value in found[0][1].items():
            torch.testing.assert_close(found[1][1][key], value, atol=1e-5, rtol=1e-4, msg=key)
        graphs.append(counted["unique_graphs"])
    assert graphs[0] > 0
    assert graphs[4] == graphs[2]


@pytest.mark.slow
def test_compiled_towers_compute_the_same(version: Version, store: Path) -> None:
    plain, _, ready = prepared(version, store)
    compiled, _, _ = prepared(version, store, compile=True)
    assert float(compiled(ready.pieces[0])["loss"]) == pytest.approx(float(plain(ready.pieces[0])["loss"]), abs=1e-5)
