"""Acceptance tests of families at full size: tens of seconds each, so all are slow. The same in
small, which every change runs, stands beside the part that it tests."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
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
from tiny import logged, sample, write_version
from tiny import spec as tiny_spec

from pretrain.config import parse_config
from pretrain.embeddings.byte_tokens import ByteTokens
from pretrain.inputs import model_inputs
from pretrain.loop import METRICS_FILE, WEIGHTS_FILE, Job, read_lines, train_worker
from pretrain.objective import Batch
from pretrain.stages import parse_stages, train_stages
from pretrain.targets.base import hidden, ids
from pretrain.version import Version
from tests.curation.av import media

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STAGED_DRIVER = """
from pathlib import Path
from pretrain.stages import parse_stages, train_stages
train_stages(parse_stages({spec!r}), Path({store!r}), "serial", progress=lambda line: None)
"""


@pytest.mark.family("F01")
@pytest.mark.parametrize("name", ["demo", "single_stream", "captioner"])
def test_three_configs_run_20_steps(name: str, version: Version, store: Path, tmp_path: Path) -> None:
    """F01 (a): two towers, one stream with matching and masked words, a captioner with a decoder; (d): the same again
    gives the same 20 losses bit for bit."""
    spec = small(name, steps=20)
    found = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        train_worker(Job(spec, (str(version.folder),), str(folder), str(store / "cache")))
        lines = logged(folder)
        found.append([{key: value for key, value in line.items() if key[0].isdigit()} for line in lines])
    assert len(found[0]) == 20
    assert found[0] == found[1]
    assert all(np.isfinite(value) for line in found[0] for value in line.values())


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


@pytest.mark.family("F11")
def test_128_spoken_captions_find_their_pictures() -> None:
    """F11 (e): triplets of four pans over one picture, its caption spoken by ten voices, and its caption; R@1 of at
    least 0.9 from the sound to the film, and from the film to the sound."""
    words = ["".join(letters) for letters in itertools.product("abcd", repeat=4)][::2]
    stem = {"use": "pretrain.embeddings.pictures.ConvStem", "width": 32, "stages": 3}
    flat = {"use": "pretrain.encoders.transformer.FeedForward", "pool": "flatten"}
    feed_forward = {"use": "pretrain.encoders.transformer.FeedForward"}
    streams = {
        "video": {"embedding": {"use": "pretrain.embeddings.video.EachFrame", "num_frames": 4, "frame": stem},
                  "encoder": {"use": "pretrain.encoders.frames.FrameEncoder", "frame": flat}},
        "audio": {"embedding": {"use": "pretrain.embeddings.mel_stem.MelStem", "width": 64, "stages": 3,
                                "position": "learned", "max_seconds": 1}, "encoder": feed_forward},
        "text": {"embedding": {"use": "pretrain.embeddings.ngrams.HashedNgrams", "width": 32, "buckets": 1024},
                 "encoder": feed_forward},
    }  # fmt: skip
    targets = [
        {"use": "binding.Binding", "anchor": "text", "groups": [["video"], ["audio"], ["video", "audio"]]},
        {"use": "info_nce.InfoNCE", "a": "audio", "b": "video"},
    ]
    spec = {**settings("text", targets), "batch_size": 128, "image_size": 24}
    objective = objective_of(parse_config({**spec, "model": {"embed_dim": 32, "streams": streams}}))
    voices = [2 ** (number / 24) for number in range(10)]
    sounds = [
        np.concatenate([media.tone(0.1, voices[n % 10] * hertz(c), rate=16_000)[:, 0] for c in word])
        for n, word in enumerate(words)
    ]
    generator = torch.Generator().manual_seed(0)
    cells = torch.rand(128, 3, 5, 5, generator=generator)
    pictures = torch.nn.functional.interpolate(cells, size=(36, 36), mode="nearest")
    films = torch.stack([pictures[:, :, 3 * t : 3 * t + 24, 2 * t : 2 * t + 24] for t in range(4)], dim=1)
    raw = {"video": films, "audio": sounds, "text": words}
    batch = Batch(model_inputs(objective.model, raw), {}, torch.arange(128))
    overfit(objective, batch, 150, lr=3e-3)
    with torch.no_grad():
        vectors = objective.encode(batch).vectors
    similarity = vectors["audio"] @ vectors["video"].T
    for direction in (similarity, similarity.T):
        assert float((direction.argmax(dim=1) == torch.arange(128)).float().mean()) >= 0.9


@pytest.mark.family("F27")
def test_a_driver_killed_in_the_second_stage_goes_on(tmp_path: Path) -> None:
    """F27 (c): kill -9; afterwards the first stage is reused and the second has the losses, the samples and the
    weights of one that nobody disturbed, bit for bit."""
    stages = [{"stage": "one", "steps": 5}, {"stage": "two", "steps": 400, "freeze": ["model.streams.image.*"]}]
    spec = tiny_spec(name="cut", stages=stages, version="tiny", where=[], checkpoint_every=7)
    stores = [tmp_path / "killed", tmp_path / "whole"]
    for store in stores:
        write_version(store, [sample(n) for n in range(40)])
    text = STAGED_DRIVER.format(spec=spec, store=str(stores[0]))
    driver = subprocess.Popen([sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": str(ROOT)})
    end = time.monotonic() + 120
    while not any(len(read_lines(log)) >= 20 for log in stores[0].glob(f"models/cut-two-*/{METRICS_FILE}")):
        assert driver.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    (cut,) = stores[0].glob("models/cut-two-*")
    assert not (cut / WEIGHTS_FILE).exists()
    runs = [train_stages(parse_stages(spec), store, "serial", progress=lambda _: None) for store in stores]
    assert [run.reused for run in runs[0]] == [True, False]
    assert [run.key for run in runs[0]] == [run.key for run in runs[1]]
    logs = []
    for _, last in runs:
        lines = logged(last.folder)
        logs.append([{k: v for k, v in line.items() if k not in ("samples_per_s", "cpu_s")} for line in lines])
    assert logs[0] == logs[1]
    assert len(logs[0]) == 400
    assert runs[0][1].weights_sha256 == runs[1][1].weights_sha256


def edits(one: str, other: str) -> int:
    """Insertions, deletions and replacements that make one of the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row, last = [i, *row[1:]], row
        for j, b in enumerate(other, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
    return row[-1]
