"""Two gloo processes: FSDP2 and gradients in pieces train as whole models on whole batches do, whatever is combined."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from assembled import FUSIONS, WRITING, assembled
from safetensors.torch import load_file
from tiny import logged, spec
from workers import spawn, train_each

from pretrain.loop import METRICS_FILE, WEIGHTS_FILE, Job
from pretrain.version import Version

STEPS = 6
PLAIN: dict[str, Any] = {"steps": STEPS, "checkpoint_every": 3}
SLOW_COPIES = {
    **PLAIN,
    "targets": [
        {"use": "pretrain.targets.siglip.SigLIP", "chunk_rows": 8},
        {"use": "pretrain.targets.queue.MomentumQueue", "size": 48, "keep": 0.9, "embed_dim": 32, "weight": 0.5},
    ],
    "ema": 0.9, "lora": {"layers": ["*.block.*"], "rank": 2},
}  # fmt: skip


def sharing() -> dict[str, Any]:
    """Two streams with one encoder, and a fusion; some targets read vectors, some tokens."""
    targets = [
        {"use": "info_nce.InfoNCE"}, {"use": "late_interaction.LateInteraction"}, {"use": "matching.ImageTextMatching"},
    ]  # fmt: skip
    config = assembled(targets, captions=2, fusion=FUSIONS["single_stream"], shared=["image", "text"])
    return {
        **config.model_dump(mode="json"), **PLAIN, "warmup_steps": 1, "num_threads": 1, "ema": 0.9,
        "where": [{"column": "split", "not_equals": "val"}],
    }  # fmt: skip


def together(name: str) -> dict[str, Any]:
    """Targets that read hidden and masked tokens, the fusion and a decoder (tied: it shares a sharded table)."""
    targets = [
        {"use": "info_nce.InfoNCE"}, {"use": "matching.ImageTextMatching"}, {"use": "captioning.Captioning"},
        {"use": "masked_multimodal.MaskedMultimodal"}, {"use": "late_interaction.LateInteraction"},
    ]  # fmt: skip
    writing = {**WRITING, "decoder": {**WRITING["decoder"], "tied": True}}
    config = assembled(targets, captions=2, fusion=FUSIONS[name], through_fusion=name == "experts", **writing)
    return {
        **config.model_dump(mode="json"), **PLAIN, "warmup_steps": 1, "num_threads": 1,
        "where": [{"column": "split", "not_equals": "val"}],
    }  # fmt: skip


KINDS: dict[str, dict[str, Any]] = {
    "plain": spec(**PLAIN),
    "slow copies": spec(**SLOW_COPIES),
    "shared weights": sharing(),
    "single stream": together("single_stream"),
    "experts": together("experts"),
}
WAYS: dict[str, dict[str, Any]] = {
    "whole": {}, "pieces": {"micro_batch": 2}, "sharded": {"sharding": "fsdp"},
    "sharded pieces": {"sharding": "fsdp", "micro_batch": 2},
}  # fmt: skip


def job(version: Version, store: Path, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    return vars(Job(settings, (str(version.folder),), str(folder), str(store / "cache")))


@pytest.fixture(scope="module")
def runs(version: Version, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind in every way, in one pair of processes."""
    root = tmp_path_factory.mktemp("sharded")
    jobs = [
        job(version, store, root / kind / way, {**settings, **changes})
        for kind, settings in KINDS.items()
        for way, changes in WAYS.items()
    ]
    spawn(train_each, root, 2, jobs)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [way for way in WAYS if way != "whole"])
def test_every_way_trains_as_the_whole_does(runs: Path, kind: str, way: str) -> None:
    whole, other = logged(runs / kind / "whole"), logged(runs / kind / way)
    assert len(other) == STEPS
    for one, two in zip(whole, other, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=2e-4)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=2e-3)
    expected, found = (load_file(runs / kind / each / WEIGHTS_FILE) for each in ("whole", way))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-3, rtol=2e-3, msg=name)


@pytest.mark.slow
def test_a_checkpoint_of_one_way_goes_on_as_the_other(runs: Path, version: Version, store: Path) -> None:
    jobs = []
    for kind, settings in KINDS.items():
        for old, new in (("whole", "sharded"), ("sharded", "whole")):
            folder = runs / kind / f"{old} then {new}"
            shutil.copytree(runs / kind / old / "checkpoints" / "step-00000003", folder / "checkpoints/step-00000003")
            shutil.copy(runs / kind / old / METRICS_FILE, folder / METRICS_FILE)
            jobs.append(job(version, store, folder, {**settings, **WAYS[new]}))
    spawn(train_each, runs, 2, jobs)
    for each in jobs:
        found = Path(each["run_folder"])
        for one, other in zip(logged(found.parent / "whole"), logged(found), strict=True):
            assert other["loss"] == pytest.approx(one["loss"], abs=2e-4)
