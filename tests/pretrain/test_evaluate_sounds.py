"""Retrieval between sounds, pictures and texts: the suites, equal pictures as one candidate, figures beside chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from segmented import SCHEMA, segment
from tiny import uid, write_version

from curation.models import SoundScorer
from pretrain.config import parse_config
from pretrain.embed import TwoTowerScorer
from pretrain.embed_sounds import RunSoundScorer, slower
from pretrain.evaluate import evaluate
from pretrain.evaluate_sounds import MIN_ROWS, Heard, _encoded, _pair_rows, members
from pretrain.metrics import chance_within
from pretrain.run import train
from pretrain.version import Version, open_version

LANGUAGES = ("en", "de", "xx")
NUM_PICTURES, NUM_VAL = 12, 11
FEED_FORWARD = {"use": "pretrain.encoders.transformer.FeedForward"}
STREAMS = {
    "image": {"use": "pretrain.embeddings.pictures.ConvStem", "width": 16, "stages": 2},
    "text": {"use": "pretrain.embeddings.ngrams.HashedNgrams", "width": 16, "buckets": 64, "n": [1]},
    "audio": {"use": "pretrain.embeddings.mel_stem.MelStem", "width": 16, "stages": 3, "max_seconds": 1},
}
CONFIG: dict[str, Any] = {
    "name": "heard",
    "where": [{"column": "split", "not_equals": "val"}, {"column": "language_claimed", "not_equals": "xx"}],
    "decontamination": "waived",
    "model": {
        "embed_dim": 16,
        "streams": {name: {"embedding": each, "encoder": FEED_FORWARD} for name, each in STREAMS.items()},
    },
    "targets": [
        {"use": "pretrain.targets.info_nce.InfoNCE", "a": "image", "b": "audio"},
        {"use": "pretrain.targets.info_nce.InfoNCE", "a": "audio", "b": "text"},
    ],
    "image_size": 16, "batch_size": 8, "captions_per_image": 1, "steps": 2, "warmup_steps": 1, "device": "cpu",
    "num_threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are spoken of in three languages; some pictures are held out, and one language."""
    root = tmp_path_factory.mktemp("heard")
    rows = []
    for picture in range(NUM_PICTURES + NUM_VAL):
        shown = segment(picture, 0.4, film=False, sound=False)["image"]
        for place, language in enumerate(LANGUAGES):
            row = segment(picture + 23 * place, 0.4, film=False, picture=False)
            said = {**row["texts"][1], "language": language, "text_uid": uid("said", picture, place)}
            split = "val" if picture >= NUM_PICTURES else "train"
            rows.append(
                {**row, "sample_uid": uid("spoken", picture, place), "image": shown, "split": split, "texts": [said],
                 "language_claimed": language}
            )  # fmt: skip
    schema = SCHEMA.append(pa.field("language_claimed", pa.string()))
    write_version(root, rows, name="heard", shard_samples=40, schema=schema)
    return root


def version_of(store: Path) -> Version:
    return open_version(next((store / "versions").iterdir()))


def test_suites_are_what_was_not_trained_on(store: Path) -> None:
    version = version_of(store)
    found = dict(members(version, parse_config(CONFIG), np.ones(version.num_samples, dtype=bool)))
    assert {name: len(samples) for name, samples in found.items()} == {
        "held_out_pictures": 2 * NUM_VAL, "held_out_languages": NUM_PICTURES, "trained": 2 * NUM_PICTURES,
    }  # fmt: skip
    rows = {name: set(samples.rows.tolist()) for name, samples in found.items()}
    assert not rows["held_out_pictures"] & rows["trained"]
    assert not rows["held_out_languages"] & rows["trained"]
    assert all(text.languages == ("xx",) for texts in found["held_out_languages"].texts for text in texts)
    few = members(version, parse_config(CONFIG), np.arange(version.num_samples) < MIN_ROWS - 1)
    assert few == []


def test_equal_pictures_are_one_candidate() -> None:
    """Vectors that are right give 1.0 in both directions; chance is that of as many positives."""
    places = [0, 1, 1, 2, 0, 3, 4, 5]
    heard = Heard("made", np.arange(8), [bytes([place]) for place in places], list("abcdefgh"), [("en",)] * 8)
    vectors = {"audio": np.eye(6)[places].astype(np.float32), "image": np.eye(6)[places].astype(np.float32)}
    rows = _pair_rows(heard, vectors, "audio", "image").figures
    by = {(row["direction"], row["metric"]): row for row in rows if row["language"] is None}
    assert by["audio_to_image", "recall_at_1"]["value"] == by["image_to_audio", "recall_at_1"]["value"] == 1.0
    assert (by["audio_to_image", "recall_at_1"]["n"], by["audio_to_image", "recall_at_1"]["num_candidates"]) == (8, 6)
    assert (by["image_to_audio", "recall_at_1"]["n"], by["image_to_audio", "recall_at_1"]["num_candidates"]) == (6, 8)
    assert by["audio_to_image", "recall_at_1"]["chance"] == pytest.approx(1 / 6)
    positives = np.array([2, 2, 1, 1, 1, 1])
    assert by["image_to_audio", "recall_at_5"]["chance"] == pytest.approx(chance_within(positives, 8, 5).mean())
    wrong = _pair_rows(heard, {**vectors, "image": np.roll(vectors["image"], 1, axis=1)}, "audio", "image").figures
    assert next(row["value"] for row in wrong if row["metric"] == "recall_at_1") == 0.0


def test_a_run_that_hears_is_evaluated_by_ear(store: Path) -> None:
    """End to end: two steps of training, then figures of all suites and directions, and the same from the file."""
    result = train(parse_config(CONFIG), store, "serial", progress=lambda _: None)
    said: list[str] = []
    rows = evaluate(result.folder, store, progress=said.append)
    whole = {
        (row["suite"], row["direction"]): row
        for row in rows
        if row["language"] is None and row["metric"] == "recall_at_1"
    }
    directions = {
        f"{a}_to_{b}" for a, b in [("audio", "image"), ("image", "audio"), ("text", "image"), ("image", "text")]
    }
    directions |= {"audio_to_text", "text_to_audio"}
    for suite in ("held_out_pictures", "held_out_languages"):
        assert {direction for name, direction in whole if name == suite} == directions
    assert {direction for name, direction in whole if name == "trained"} == {"audio_to_image", "image_to_audio"}
    figure = whole["held_out_pictures", "audio_to_image"]
    assert (figure["n"], figure["num_candidates"], figure["chance"]) == (
        2 * NUM_VAL,
        NUM_VAL,
        pytest.approx(1 / NUM_VAL),
    )
    assert 0 <= figure["lo"] <= figure["value"] <= figure["hi"] <= 1
    assert evaluate(result.folder, store, progress=said.append) == rows
    assert "is there already" in said[-1]


def test_a_run_is_a_scorer_of_sounds_in_the_space_of_its_pictures(store: Path) -> None:
    """Its vectors are those that evaluation uses, for a sound at 48 kHz; several windows are averaged."""
    folder = train(parse_config(CONFIG), store, "serial", progress=lambda _: None).folder
    scorer, pictures = RunSoundScorer(folder), TwoTowerScorer(folder, precision="fp32")
    assert isinstance(scorer, SoundScorer)
    assert (scorer.weights_digest, scorer.embed_dim) == (pictures.weights_digest, pictures.embed_dim)
    chord = chord_at(48_000)  # half a second: the model hears one
    truth = _encoded(pictures, "audio", [chord_at(16_000)])
    found, there = scorer.encode_sounds([chord, None, chord[:0]])
    assert there.tolist() == [True, False, False]
    assert float(found[0] @ truth[0]) > 0.999  # but for the filter of the other rate
    noise = np.random.default_rng(0).normal(0, 0.3, len(chord)).astype(np.float32)
    long = np.concatenate([chord, chord, noise, noise])
    mean = scorer.encode_sounds([long[:48_000], long[48_000:]])[0].mean(axis=0)
    apart = mean / np.linalg.norm(mean)  # but for what the filter of another rate takes over the edge between them
    assert float(scorer.encode_sounds([long])[0][0] @ apart) > max(0.999, float(found[0] @ apart))
    np.testing.assert_array_equal(scorer.encode_texts(["a dog"])[0], pictures.encode_texts(["a dog"])[0])


def chord_at(rate: int) -> np.ndarray:
    at = np.arange(rate // 2) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * at) + 0.2 * np.sin(2 * np.pi * 3000 * at)).astype(np.float32)


def test_slower_sound_is_the_same_sound_without_what_it_cannot_hold() -> None:
    at = np.arange(48_000) / 48_000
    low, high = np.sin(2 * np.pi * 1000 * at), np.sin(2 * np.pi * 11_000 * at)
    for rate in (24_000, 16_000, 8000):
        found = slower((low + high * (rate < 22_000)).astype(np.float32), rate)
        wanted = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
        assert len(found) == rate
        inside = slice(100, -100)
        np.testing.assert_allclose(found[inside], wanted[inside], atol=2e-3)
    assert slower(low[:7].astype(np.float32), 48_000).tolist() == low[:7].astype(np.float32).tolist()
    assert [len(slower(np.ones(n, np.float32), 16_000)) for n in (0, 1, 2, 3, 4)] == [0, 1, 1, 1, 2]
