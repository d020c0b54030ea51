"""Acceptance tests of families that no file of one part covers: assembling, initialisation, configs that train.

The others carry the same mark, `family`, beside the part that they test; pretrain/README.md has the table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch
import yaml
from assembled import FUSIONS, WRITING, assembled, batch_of, half_of, objective_of
from safetensors.torch import load_file
from tiny import config as tiny_config
from tiny import sample

from pretrain.config import ConfigError, load_config, parse_config
from pretrain.gradcache import backward_in_pieces
from pretrain.keyed import key
from pretrain.loop import METRICS_FILE, WEIGHTS_FILE, Job, read_lines, train_worker
from pretrain.model import load_weights
from pretrain.objective import Objective
from pretrain.stages import parse_stages, train_stages
from pretrain.targets.pairs import INITIAL_LOG_SCALE
from pretrain.version import Version

CONFIGS = Path(__file__).parents[2] / "pretrain" / "configs"
NEED_MEDIA = {"speech", "video_audio_language"}
"""Configs of sounds and films: test_segments.py trains them."""
STAGED = {"stages", "uni_then_cross", "old_index"}
NEED_WEIGHTS = {"open_clip", *STAGED}
RUN = sorted({path.stem for path in CONFIGS.glob("*.yaml")} - NEED_MEDIA - NEED_WEIGHTS)


def small(name: str, **changes: Any) -> dict[str, Any]:
    """A shipped config cut down to the tiny version: narrow streams, few steps."""
    whole = load_config(CONFIGS / f"{name}.yaml", image_size=32).model_dump(mode="json")
    whole |= {"version": "latest", "where": [], "steps": 3, "batch_size": 8, "captions_per_image": 2, "num_workers": 1}
    whole |= {"num_threads": 1, "device": "cpu", "checkpoint_every": 100, "warmup_steps": 1, **changes}
    streams = [each.get("embedding", {}) for each in whole["model"]["streams"].values()]
    for embedding in (*streams, whole["model"].get("target_embedding") or {}):
        if "max_tokens" in embedding:
            embedding["max_tokens"] = 24
    return whole


@pytest.fixture(scope="module")
def rich_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose version has the columns that configs ask for: drawn, so nothing can be learned from them."""
    numbers = pa.list_(pa.float32())
    generator = np.random.default_rng(0)

    def drawn(width: int) -> list[float]:
        return [float(value) for value in generator.normal(size=width)]

    samples = [sample(n) for n in range(32)]
    for index, each in enumerate(samples):
        each |= {
            "teacher_image": drawn(4),
            "older_image": drawn(4),
            "cluster_image": index % 5,
            "cluster_text": index % 7,
        }
        for number, text in enumerate(each["texts"]):
            text |= {"teacher_text": drawn(4), "older_text": drawn(4)}
            text["tag_targets"] = [int(index % 8 == tag) for tag in range(256)]
            text["caption_negatives"] = [{"text": text["text"][::-1], "kind": "roles"}] * (number % 3)
    negatives = pa.list_(pa.struct([("text", pa.string()), ("kind", pa.string())]))
    of_tags = [("tag_targets", pa.list_(pa.uint8(), 256)), ("caption_negatives", negatives)]
    of_texts = pa.struct([*tiny.TEXT, ("teacher_text", numbers), ("older_text", numbers), *of_tags])
    own = {"teacher_image": numbers, "older_image": numbers, "cluster_image": pa.int32(), "cluster_text": pa.int32()}
    columns = [field for field in tiny.SCHEMA if field.name != "texts"]
    schema = pa.schema([*columns, ("texts", pa.list_(of_texts)), *own.items()])
    root = tmp_path_factory.mktemp("rich")
    tiny.write_version(root, samples, name="rich", schema=schema)
    return root


@pytest.mark.family("F01")
@pytest.mark.parametrize("name", RUN)
def test_every_config_trains(name: str, rich_store: Path, tmp_path: Path) -> None:
    """F01 (a): built from its file, three steps on real batches, all losses finite, one column for each target."""
    spec = small(name)
    folder = next((rich_store / "versions").iterdir())
    train_worker(Job(spec, (str(folder),), str(tmp_path / "run"), str(rich_store / "cache")))
    lines = [json.loads(line) for line in read_lines(tmp_path / "run" / METRICS_FILE)]
    columns = {f"{i}_{each['target']['use'].rsplit('.', 1)[1]}" for i, each in enumerate(spec["targets"])}
    assert len(lines) == 3
    for line in lines:
        assert columns == {key for key in line if key[0].isdigit()}
        assert all(torch.isfinite(torch.tensor(line[key])) for key in (*columns, "loss", "grad_norm"))
    again = parse_config(spec).model.without_weights().build(32)
    load_weights(again, tmp_path / "run" / WEIGHTS_FILE)  # what was trained can be loaded, by name and shape


@pytest.mark.family("F01")
@pytest.mark.parametrize("name", sorted({path.stem for path in CONFIGS.glob("*.yaml")} - NEED_WEIGHTS))
def test_at_step_0_gains_are_1_and_scales_are_clips(name: str) -> None:
    """F01 (c): TencentPretrain overwrites both with N(0, 0.02)."""
    config = load_config(CONFIGS / f"{name}.yaml", image_size=32)
    objective = Objective(config.model.build(32), config)
    norms = [m for m in objective.modules() if isinstance(m, torch.nn.LayerNorm | torch.nn.GroupNorm)]
    assert norms
    for norm in norms:
        assert bool((norm.weight == 1).all())
        assert not bool(norm.bias.any())
    scales = {n: p for n, p in objective.targets.named_parameters() if n.endswith("log_scale")}
    fixed = {"Prototypes": torch.tensor(1 / 0.07).log().item(), "SigLIP": torch.tensor(10.0).log().item()}
    for full_name, scale in scales.items():
        if scale.requires_grad:
            expected = next((value for kind, value in fixed.items() if kind in full_name), INITIAL_LOG_SCALE)
            assert scale.item() == pytest.approx(expected, abs=1e-6)
    _, kept = (group["params"] for group in objective.parameter_groups(0.1))
    assert all(any(each is scale for each in kept) for scale in scales.values() if scale.requires_grad)


@pytest.mark.family("F01")
def test_the_same_seed_gives_the_same_losses(version: Version, store: Path, tmp_path: Path) -> None:
    """F01 (d), bit for bit, with masks, drawn negatives and a decoder."""
    parts = ("matching.ImageTextMatching", "masked_language.MaskedLanguage", "captioning.Captioning")
    config = assembled(
        [{"use": part} for part in parts],
        captions=2, fusion=FUSIONS["single_stream"], **WRITING,
    )  # fmt: skip
    spec = {**config.model_dump(mode="json"), "steps": 6, "warmup_steps": 2, "num_threads": 1}
    logs = []
    for name in ("one", "two"):
        train_worker(Job(spec, (str(version.folder),), str(tmp_path / name), str(store / "cache")))
        lines = [json.loads(line) for line in read_lines(tmp_path / name / METRICS_FILE)]
        timings = ("samples_per_s", "cpu_s")
        logs.append([{key: value for key, value in line.items() if key not in timings} for line in lines])
    assert logs[0] == logs[1]
    assert len({line["loss"] for line in logs[0]}) == 6


@pytest.mark.family("F01")
def test_removing_a_target_removes_its_loss_and_nothing_else() -> None:
    """F01 (e)."""
    targets = [{"use": "info_nce.InfoNCE"}, {"use": "matching.ImageTextMatching"}, {"use": "captioning.Captioning"}]
    whole = objective_of(assembled(targets, fusion=FUSIONS["single_stream"], **WRITING))
    fewer = objective_of(assembled(targets[::2], fusion=FUSIONS["single_stream"], **WRITING))
    all_losses, some_losses = whole(batch_of(whole)), fewer(batch_of(fewer))
    assert set(all_losses) == {"0_InfoNCE", "1_ImageTextMatching", "2_Captioning", "loss"}
    assert set(some_losses) == {"0_InfoNCE", "1_Captioning", "loss"}
    assert all_losses["0_InfoNCE"].item() == some_losses["0_InfoNCE"].item()
    assert all_losses["2_Captioning"].item() == some_losses["1_Captioning"].item()
    assert not any(p.requires_grad for n, p in fewer.model.named_parameters() if n.startswith("joint.fusion"))


@pytest.mark.family("F01")
@pytest.mark.parametrize(
    ("place", "package", "valid"),
    [
        ("fusion", "pretrain.fusions", "pretrain.fusions.single_stream.SingleStream"),
        ("decoder", "pretrain.decoders", "pretrain.decoders.prefix.PrefixDecoder"),
        ("target_embedding", "pretrain.embeddings", "pretrain.embeddings.byte_tokens.ByteTokens"),
    ],
)
def test_unknown_names_fail_before_any_data_is_read(place: str, package: str, valid: str) -> None:
    """F01 (b): the version that the config names does not exist, and is not asked for."""
    model = {**tiny_config().model_dump(mode="json")["model"], place: {"use": f"{package}.nothing.Nothing"}}
    with pytest.raises(ConfigError) as error:
        parse_config({**tiny_config().model_dump(mode="json"), "version": "no-such-version", "model": model})
    for part in (place, "Nothing", valid):
        assert part in str(error.value)


@pytest.mark.family("F29")
def test_each_target_uses_the_rows_that_qualify() -> None:
    """F29 (a): a third of the pictures and a third of the texts are missing; no NaN; what is absent has no gradient."""
    targets = [
        {"use": "info_nce.InfoNCE"}, {"use": "matching.ImageTextMatching"}, {"use": "captioning.Captioning"},
        {"use": "masked_multimodal.MaskedMultimodal"}, {"use": "masked_language.MaskedLanguage", "given": []},
    ]  # fmt: skip
    objective = objective_of(assembled(targets, fusion=FUSIONS["single_stream"], **WRITING))
    batch = batch_of(objective, pictures=9)
    batch.present = {"image": torch.arange(9) % 3 != 0, "text": torch.arange(9) % 3 != 1}
    image = batch.inputs["image"]["image_BCHW"].requires_grad_()
    losses = objective(batch)
    losses["loss"].backward()
    assert all(bool(torch.isfinite(loss)) and loss.item() > 0 for loss in losses.values())
    assert all(bool(torch.isfinite(p.grad).all()) for p in objective.parameters() if p.grad is not None)
    assert image.grad is not None
    assert image.grad.flatten(1).any(dim=1).tolist() == batch.present["image"].tolist()


@pytest.mark.family("F27")
def test_uni_modal_then_cross_modal_stages_run_as_a_config(tmp_path: Path) -> None:
    """F27 (d): the second starts from the towers of the first; the fusion is as it was made until then."""
    tiny.write_version(tmp_path, [sample(n) for n in range(16)])
    small_enough = {
        "where": [],
        "batch_size": 8,
        "image_size": 16,
        "num_threads": 1,
        "device": "cpu",
        "warmup_steps": 1,
    }
    spec = {**yaml.safe_load((CONFIGS / "uni_then_cross.yaml").read_text()), **small_enough}
    for stage in spec["stages"]:
        stage["steps"] = 2
    first, second = train_stages(parse_stages(spec), tmp_path, "serial", progress=lambda _: None)
    before, after = (load_file(run.folder / WEIGHTS_FILE) for run in (first, second))
    assert json.loads((second.folder / "stage.json").read_text())["parent_weights_sha256"] == first.weights_sha256
    joint = [name for name in before if name.startswith("model.joint.fusion") and before[name].ndim > 1]
    assert joint
    fresh = parse_stages(spec)[0].config
    torch.manual_seed(int(key("init", 0) >> 1))
    start = {f"model.{name}": value for name, value in fresh.model.build(16).state_dict().items()}
    assert all(torch.equal(before[name], start[name]) for name in joint)
    assert all(not torch.equal(after[name], before[name]) for name in joint)


@pytest.mark.family("F24")
def test_pieces_give_the_gradient_of_the_whole_batch() -> None:
    """Negatives, masks and memories of a whole batch, with towers that see half of it at a time (GradCache)."""
    targets = [
        {"use": "info_nce.InfoNCE"}, {"use": "matching.ImageTextMatching"}, {"use": "captioning.Captioning"},
        {"use": "masked_multimodal.MaskedMultimodal", "text_rate": 0.3}, {"use": "late_interaction.LateInteraction"},
    ]  # fmt: skip
    found = []
    for in_pieces in (False, True):
        objective = objective_of(assembled(targets, fusion=FUSIONS["single_stream"], **WRITING))
        objective.set_progress(0.5)
        batch = batch_of(objective)
        if in_pieces:
            losses = backward_in_pieces(objective, [half_of(batch, 0), half_of(batch, 1)])
        else:
            losses = objective(batch)
            losses["loss"].backward()
        found.append((losses["loss"].item(), {n: p.grad for n, p in objective.named_parameters()}))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, atol=1e-5, rtol=1e-4)


def test_a_stream_without_data_says_so() -> None:
    spec = load_config(CONFIGS / "speech.yaml").model_dump(mode="json")
    objective = Objective(parse_config(spec).model.build(), parse_config(spec))
    with pytest.raises(ValueError, match="audio reads 'audio'; a sample has: image, text"):
        batch_of(objective)
