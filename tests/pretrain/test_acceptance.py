"""Acceptance tests of families at the size that the facts ask for: tens of seconds each, so all are slow. The same in
small, which every change runs, stands beside the part that it tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from assembled import FUSIONS, WRITING, assembled, batch_of, objective_of, overfit
from segmented import hertz
from test_families import small
from test_matching import accuracy
from test_segments import STREAMS, settings

from pretrain.config import parse_config
from pretrain.embeddings.byte_tokens import ByteTokens
from pretrain.inputs import model_inputs
from pretrain.loop import METRICS_FILE, Job, read_lines, train_worker
from pretrain.objective import Batch
from pretrain.targets.base import hidden, ids
from pretrain.version import Version
from tests.curation.av import media

pytestmark = pytest.mark.slow


@pytest.mark.family("F01")
@pytest.mark.parametrize("name", ["demo", "single_stream", "captioner"])
def test_three_configs_run_20_steps(name: str, version: Version, store: Path, tmp_path: Path) -> None:
    """F01 (a): two towers, one stream with matching and masked words, a captioner with a decoder."""
    spec = small(name, steps=20)
    train_worker(Job(spec, (str(version.folder),), str(tmp_path), str(store / "cache")))
    lines = [json.loads(line) for line in read_lines(tmp_path / METRICS_FILE)]
    assert len(lines) == 20
    assert all(np.isfinite(line["loss"]) for line in lines)


@pytest.mark.family("F24")
def test_64_pairs_are_told_apart() -> None:
    """F24 (d)."""
    targets = [{"use": "matching.ImageTextMatching"}, {"use": "info_nce.InfoNCE"}]
    objective = objective_of(assembled(targets, fusion=FUSIONS["single_stream"]))
    batch = batch_of(objective, pictures=64)
    overfit(objective, batch, 250, lr=2e-3)
    overfit(objective, batch, 80, lr=3e-4)
    assert accuracy(objective, objective.encode(batch)) > 0.9


@pytest.mark.family("F26")
def test_32_captions_are_written() -> None:
    """F26 (b): at least 90% of 32 captions word for word, always the likeliest token."""
    objective = objective_of(assembled([{"use": "captioning.Captioning"}], **WRITING))
    batch = batch_of(objective, pictures=32)
    overfit(objective, batch, 400, lr=3e-3)
    encoded = objective.encode(batch)
    wanted = ByteTokens().texts(encoded.columns[ids("target")])
    objective.eval()
    joint: Any = objective.model.parts()
    written = ByteTokens().texts(joint.write({"image": encoded.tokens[hidden("image")]}, 24))
    assert len(set(wanted)) == 32
    assert sum(a == b for a, b in zip(written, wanted, strict=True)) >= 29


@pytest.mark.family("F13")
def test_32_utterances_are_transcribed() -> None:
    """F13 (b): a character error rate below 5%."""
    generator = np.random.default_rng(0)
    words = sorted({"".join(generator.choice(list("abcd"), generator.integers(2, 6))) for _ in range(60)})[:32]
    audio = {"use": "pretrain.embeddings.audio.LogMel", "width": 32, "num_mels": 40}
    streams = {"audio": {**STREAMS["audio"], "embedding": audio}, "text": STREAMS["text"]}
    spec = {**settings("audio text", [{"use": "ctc.CTC"}], steps=400), "batch_size": 32}
    objective = objective_of(parse_config({**spec, "model": {"embed_dim": 8, "streams": streams}}))
    sounds = [np.concatenate([media.tone(0.12, hertz(c), rate=16_000)[:, 0] for c in word]) for word in words]
    batch = Batch(model_inputs(objective.model, {"audio": sounds, "text": words}), {}, torch.arange(32))
    overfit(objective, batch, 400, lr=2e-3)
    module: Any = objective.targets["0_CTC"]
    read = ByteTokens().texts(module.read(objective.encode(batch).tokens[hidden("audio")]))
    errors = sum(edits(found, word) for found, word in zip(read, words, strict=True))
    assert errors / sum(map(len, words)) < 0.05


def edits(one: str, other: str) -> int:
    """Insertions, deletions and replacements that make one of the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row, last = [i, *row[1:]], row
        for j, b in enumerate(other, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
    return row[-1]
