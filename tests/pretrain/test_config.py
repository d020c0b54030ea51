"""pretrain/config.py: errors name the place, the value and the valid choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import config, spec

from pretrain.config import Clause, ConfigError, load_config, parse_config
from pretrain.run import run_key
from pretrain.stages import load_stages


def streams(**image: Any) -> dict[str, Any]:
    model: dict[str, Any] = spec()["model"]
    model["streams"]["image"] = {**model["streams"]["image"], **image}
    return {"model": model}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lerning_rate": 1}, ["lerning_rate = 1", "no such field", "warmup_steps"]),
        ({"precision": "fp16"}, ["precision = 'fp16'", "'fp32' or 'bf16'"]),
        ({"lr": -1}, ["lr = -1", "greater than 0"]),
        ({"epochs": 2}, ["exactly one of steps and epochs"]),
        ({"num_workers": 3}, ["batch_size 16", "num_workers 3"]),
        ({"where": [{"colum": "split", "equals": "x"}]}, ["where.0.colum = 'split'", "column"]),
        ({"where": [{"column": "split"}]}, ["where.0", "exactly one of equals, not_equals, in"]),
        ({"targets": []}, ["targets"]),
        ({"targets": [{"use": "pretrain.targets.info_nce.SigLip"}]}, ["targets.0", "SigLip", "info_nce.InfoNCE"]),
        ({"targets": [{"use": "no.such.Thing"}]}, ["no.such.Thing", "cannot be imported", "info_nce.InfoNCE"]),
        ({"targets": [{"use": "pretrain.targets.info_nce.InfoNCE", "a": "audio"}]}, ["'audio'", "image, text"]),
        ({"targets": [{"use": "pretrain.targets.info_nce.InfoNCE", "weight": 0}]}, ["targets.0.weight = 0"]),
        (
            streams(encoder={"use": "pretrain.embeddings.pictures.Patches"}),
            ["model", "streams.image.encoder", "no Encoder", "encoders.transformer.Transformer"],
        ),
        (
            streams(embedding={"use": "pretrain.embeddings.pictures.Patches", "patch": 8}),
            ["streams.image.embedding", "patch = 8", "no such field", "patch_size"],
        ),
        (
            streams(embedding={"use": "pretrain.embeddings.pictures.Pixels"}),
            ["Pixels gives pixels", "FeedForward takes tokens"],
        ),
        (
            {"model": {"use": "pretrain.encoders.open_clip_model.OpenClip", "name": "ViT-B-23"}},
            ["'ViT-B-23'", "ViT-B-32"],
        ),
    ],
)
def test_faults_are_named(changes: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(spec(**changes), "c.yaml")
    assert str(error.value).startswith("c.yaml")
    for part in said:
        assert part in str(error.value)


def test_written_form_reads_back_and_has_the_same_key() -> None:
    original = config(where=[{"column": "split", "in": ["train", None]}, {"column": "category", "equals": None}])
    again = parse_config(json.loads(json.dumps(original.model_dump(mode="json"))))
    assert again == original
    assert run_key(again, "ab" * 32) == run_key(original, "ab" * 32)


def test_key_changes_with_what_matters_and_only_with_that() -> None:
    key = run_key(config(), "ab" * 32)
    assert run_key(config(name="other", num_threads=2, checkpoint_every=7), "ab" * 32) == key
    assert run_key(config(), "cd" * 32) != key
    deep = spec()
    deep["model"]["streams"]["text"]["embedding"]["buckets"] = 4096
    changed = [config(lr=0.1), config(seed=1), config(where=[]), parse_config(deep), config(exclude_languages=[])]
    assert len({key, *(run_key(each, "ab" * 32) for each in changed)}) == 6


def test_key_sees_the_weights_that_training_starts_from(tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    file.write_bytes(b"one")
    start = spec()
    start["model"]["init"] = str(file)
    before = run_key(parse_config(start), "ab" * 32)
    file.write_bytes(b"two")
    assert run_key(parse_config(start), "ab" * 32) != before


def test_yaml_files(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file)
    file.write_text("steps: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="no valid YAML"):
        load_config(file)
    file.write_text("- 1", encoding="utf-8")
    with pytest.raises(ConfigError, match="mapping"):
        load_config(file)
    file.write_text(yaml.safe_dump(spec()), encoding="utf-8")
    assert load_config(file, seed=3).seed == 3
    for again in ("lr: 0.1\nseed: 1\nlr: 0.2\n", "seed: 1\nmodel:\n  - {lr: 1, lr: 2}\n"):  # YAML forgets the first
        file.write_text(again, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"c\.yaml:3: lr: this field stands in line [13] already"):
            load_config(file)
    file.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(file)


def test_shipped_configs_are_valid() -> None:
    folder = Path(__file__).parents[2] / "pretrain" / "configs"
    files = sorted(folder.glob("*.yaml"))
    assert files
    for file in files:
        assert load_stages(file)


def test_clauses() -> None:
    assert Clause(column="c", equals=None).holds(None)
    assert not Clause(column="c", equals="x").holds(None)
    assert Clause(column="c", not_equals="val").holds(None)
    assert not Clause(column="c", not_equals="val").holds("val")
    within = Clause.model_validate({"column": "c", "in": [1, "a"]})
    assert within.holds("a")
    assert not within.holds("b")
