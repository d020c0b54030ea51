"""pretrain/run.py and pretrain/evaluate.py: train, reuse, resume, evaluate, end to end on a tiny version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import assembled
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import config, sample, spec, uid, write_version

from pretrain.component import rooted
from pretrain.config import ConfigError
from pretrain.encoders.open_clip_model import OpenClip
from pretrain.evaluate import evaluate
from pretrain.retrieval import MIN_PER_LANGUAGE, of_suite
from pretrain.run import RunResult, open_run, train
from pretrain.seen import SeenSamples
from pretrain.suites import Suite, suites
from pretrain.version import Version, VersionError


def quiet(_: str) -> None:
    """No progress."""


def figure(rows: list[dict[str, Any]], suite: str, direction: str, metric: str, language: str | None = None) -> Any:
    return next(
        row
        for row in rows
        if (row["suite"], row["direction"], row["metric"], row["language"]) == (suite, direction, metric, language)
    )


@pytest.fixture(scope="module")
def overfitted(store: Path) -> RunResult:
    settings = config(name="overfit", steps=150, augment=False, captions_per_image=3, lr=0.005, warmup_steps=10)
    return train(settings, store, "serial", progress=quiet)


def test_it_learns_its_pictures_and_a_language_it_never_saw(overfitted: RunResult, store: Path) -> None:
    rows = evaluate(overfitted.folder, store, progress=quiet)
    assert overfitted.metrics["loss"] < 0.2
    seen = figure(rows, "held_out_languages", "text_to_image", "recall_at_1")
    assert seen["n"] == 40
    assert seen["num_candidates"] == 40
    assert seen["chance"] == pytest.approx(1 / 40)
    assert seen["value"] > 0.8
    assert seen["lo"] > 10 * seen["chance"]
    assert figure(rows, "held_out_languages", "image_to_text", "recall_at_10")["value"] > 0.9
    unseen = figure(rows, "held_out_pictures", "text_to_image", "recall_at_5")
    assert unseen["n"] == 24  # 8 pictures, 3 languages: the held-out language is not mixed in
    assert unseen["chance"] == pytest.approx(5 / 8)
    assert unseen["lo"] - 0.2 <= unseen["chance"] <= unseen["hi"] + 0.2  # random pictures: nothing to learn
    per_language = figure(rows, "held_out_languages", "text_to_image", "recall_at_1", "zz")
    assert per_language["value"] == seen["value"]


def test_the_second_time_everything_is_reused(overfitted: RunResult, store: Path) -> None:
    first = evaluate(overfitted.folder, store, progress=quiet)
    said: list[str] = []
    settings = config(name="overfit", steps=150, augment=False, captions_per_image=3, lr=0.005, warmup_steps=10)
    again = train(settings, store, "serial", progress=said.append)
    assert (again.reused, again.key, again.folder) == (True, overfitted.key, overfitted.folder)
    assert evaluate(again.folder, store, progress=said.append) == first
    assert [("reused" in line) for line in said] == [True, True]


def test_a_damaged_result_is_not_reused(store: Path) -> None:
    result = train(config(name="damaged", steps=2), store, "serial", progress=quiet)
    weights = result.folder / "model.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert open_run(result.folder) is None
    again = train(config(name="damaged", steps=2), store, "serial", progress=quiet)
    assert not again.reused
    assert again.weights_sha256 == result.weights_sha256  # the same bits when trained again


def test_run_folder_says_what_it_is(overfitted: RunResult, version: Version) -> None:
    facts = json.loads((overfitted.folder / "result.json").read_text())
    assert facts["version_digest"] == version.digest
    assert (facts["num_samples"], facts["num_texts"], facts["num_steps"]) == (40, 120, 150)
    assert overfitted.folder.name == f"overfit-{overfitted.key[:12]}"
    assert {path.name for path in overfitted.folder.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "metrics.jsonl",
        "result.json",
    }
    assert not (overfitted.folder / "checkpoints").exists()


def test_a_run_is_read_from_any_folder(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its config names by relative paths is written down absolutely; names that are no files stay."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"sample_uid": [uid("sample", number) for number in range(40)]}), "subset.parquet")
    first = train(config(name="first", steps=1), store, "serial", progress=quiet)
    shutil.copytree(first.folder, "before")
    changes: dict[str, Any] = {"name": "second", "steps": 1, "subset": "subset.parquet", "init": "before"}
    changes["mixture"] = [{"version": "latest", "share": 0.5, "subset": "subset.parquet"}]
    changes["model"] = {**spec()["model"], "init": "before/model.safetensors"}
    run = train(config(**changes), store, "serial", progress=quiet)
    monkeypatch.chdir(store)
    written = json.loads((run.folder / "config.json").read_text())
    assert [written["init"], written["subset"]] == [str(tmp_path / "before"), str(tmp_path / "subset.parquet")]
    assert written["mixture"][0]["subset"] == str(tmp_path / "subset.parquet")
    assert written["model"]["init"] == str(tmp_path / "before" / "model.safetensors")
    assert len(SeenSamples(run.folder).of(1)) == 16
    tagged = OpenClip(name="ViT-B-32", pretrained="openai")
    (store / "openai").mkdir()
    assert rooted(tagged) == tagged


def test_streams_may_be_called_anything(store: Path) -> None:
    """The same model under other names is evaluated to the same figures: by vectors, by tokens, within its fusion."""
    found = []
    for picture, text in (("image", "text"), ("photo", "words")):
        kinds = {"image": picture, "text": text}
        streams = {name: {**assembled.stream(kind), "source": kind} for kind, name in kinds.items()}
        model = {"embed_dim": 16, "streams": streams, "fusion": assembled.FUSIONS["single_stream"]}
        targets = [
            {"use": f"pretrain.targets.{kind}", "a": picture, "b": text}
            for kind in ("late_interaction.LateInteraction", "matching.ImageTextMatching")
        ]
        run = train(config(name=picture, model=model, targets=targets, steps=2), store, "serial", progress=quiet)
        rows = evaluate(run.folder, store, progress=quiet)
        found.append({(row["suite"], row["direction"], row["metric"], row["language"]): row["value"] for row in rows})
    assert {suite for suite, *_ in found[0]} >= {"held_out_pictures", "held_out_pictures:tokens", "labels:category"}
    assert ("held_out_pictures", None, "modality_distance", None) in found[0]
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    with pytest.raises(ValueError, match="no stream of the model reads 'audio'; its streams: image, text"):
        config().model.build(16).stream_of("audio")


def test_progress_is_visible(store: Path) -> None:
    said: list[str] = []
    train(config(name="loud", steps=3), store, "serial", progress=said.append)
    text = "\n".join(said)
    for part in ("40 samples", "120 texts", "step 1/3", "step 3/3", "samples/s", "done"):
        assert part in text


def test_a_picture_that_does_not_decode_is_left_out_and_counted(tmp_path: Path) -> None:
    broken = {**sample(2), "image": b"GIF89a, but not really"}
    write_version(tmp_path, [sample(1), broken, sample(3), sample(4)])
    said: list[str] = []
    result = train(config(steps=2, batch_size=2, where=[]), tmp_path, "serial", progress=said.append)
    assert json.loads((result.folder / "result.json").read_text())["num_samples"] == 3
    assert "1 pictures could not be decoded" in "\n".join(said)


def test_pictures_none_of_which_decodes_are_an_error_and_not_cached(tmp_path: Path) -> None:
    write_version(tmp_path, [{**sample(n), "image": b"no picture"} for n in range(3)])
    with pytest.raises(ValueError, match="none of the 3 pictures"):
        train(config(steps=2, batch_size=2, where=[]), tmp_path, "serial", progress=quiet)
    assert not list((tmp_path / "cache" / "pictures").iterdir())
    said: list[str] = []
    streamed = config(steps=2, batch_size=2, where=[], pictures="streamed")
    run = train(streamed, tmp_path, "serial", progress=said.append)
    assert run.metrics["images_missing"] == 2
    assert any("note: the gradient was 0 at every step, so nothing was learned" in line for line in said)


def test_damaged_shards_and_missing_versions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="no sealed dataset version"):
        train(config(), tmp_path, "serial", progress=quiet)
    version = write_version(tmp_path, [sample(n) for n in range(4)])
    with pytest.raises(VersionError, match=version.folder.name):
        train(config(version="tinny"), tmp_path, "serial", progress=quiet)
    shard = next(version.folder.glob("*.parquet"))
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(bytes(raw))
    with pytest.raises(VersionError, match="damaged"):
        train(config(batch_size=4), tmp_path, "serial", progress=quiet)


def test_workers_without_ray_are_refused(store: Path) -> None:
    with pytest.raises(ValueError, match="needs Ray"):
        train(config(name="refused", num_workers=2), store, "serial", progress=quiet)
    with pytest.raises(ConfigError, match="none of the 48"):
        train(config(where=[{"column": "split", "equals": "?"}]), store, "serial", progress=quiet)


def test_suites_equal_a_dull_reading(version: Version) -> None:
    found = {suite.name: suite for suite in suites(version, config(), np.ones(48, dtype=bool))}
    rows = version.read(["texts", "split"]).to_pylist()
    for name, split, languages in (
        ("held_out_pictures", "val", {"aa", "ab", "ac"}),
        ("held_out_languages", "train", {"zz"}),
    ):
        suite = found[name]
        expected = {
            (row_number, text["text"])
            for row_number, row in enumerate(rows)
            if row["split"] == split
            for text in row["texts"]
            if set(text["languages"]) <= languages
        }
        pairs = {(int(suite.rows[p]), suite.texts[t]) for t, p in zip(*np.nonzero(suite.positive_TP), strict=True)}
        assert pairs == expected


def test_a_caption_of_several_pictures_is_right_for_each(tmp_path: Path) -> None:
    twins = [sample(1), {**sample(2), "texts": sample(1)["texts"]}]
    version = write_version(tmp_path, twins)
    (suite,) = suites(version, config(where=[]), np.ones(2, dtype=bool))
    assert suite.positive_TP.tolist() == [[True, True]]


def test_figures_equal_brute_force() -> None:
    generator = np.random.default_rng(0)
    unit = lambda *shape: (lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True))(generator.normal(size=shape))  # noqa: E731
    image_PD, text_TD = unit(30, 5), unit(90, 5)
    positive_TP = np.zeros((90, 30), dtype=bool)
    positive_TP[np.arange(90), np.arange(90) // 3] = True
    positive_TP[0, 7] = True
    languages = [("aa", "bb") if n % 3 == 0 else ("bb",) if n % 3 == 1 else ("cc",) for n in range(90)]
    suite = Suite("s", np.arange(30), [str(n) for n in range(90)], languages, positive_TP)
    rows = of_suite(suite, image_PD, text_TD).figures
    scores = text_TD @ image_PD.T

    def recall(of: np.ndarray, positive: np.ndarray, k: int) -> float:
        return float(np.mean([positive[q][np.argsort(-of[q])[:k]].any() for q in range(len(of))]))

    for k in (1, 5, 10):
        assert figure(rows, "s", "text_to_image", f"recall_at_{k}")["value"] == recall(scores, positive_TP, k)
        assert figure(rows, "s", "image_to_text", f"recall_at_{k}")["value"] == recall(scores.T, positive_TP.T, k)
        spoken = np.array(["aa" in each for each in languages])
        by_language = figure(rows, "s", "text_to_image", f"recall_at_{k}", "aa")
        assert by_language["value"] == recall(scores[spoken], positive_TP[spoken], k)
        assert by_language["n"] == 30 >= MIN_PER_LANGUAGE
