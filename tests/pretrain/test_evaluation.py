"""The evaluation job: geometry and ranks against simulation, streams, the tables, and clip_benchmark's figures."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from safetensors.torch import load_file, save_file
from segmented import segment, write_segments
from tiny import config, sample, uid, write_version

from pretrain import found as files
from pretrain.checked import EvaluationError
from pretrain.config import TrainConfig
from pretrain.diagnostics import class_vectors, rank_variance_rows, uniformity, within_top
from pretrain.evaluate import evaluate, evaluation_files
from pretrain.evaluate_streams import by_streams, stream_vectors
from pretrain.found import RANK
from pretrain.geometry import geometry_rows, random_uniformity
from pretrain.loop import WEIGHTS_FILE
from pretrain.metrics import chance_rank_moments, chance_reciprocal_rank, first_ranks
from pretrain.retrieval import Side, common_languages, match
from pretrain.run import train
from pretrain.stream_suites import between_streams, shuffled_frames, shuffled_order
from pretrain.suites import Suite
from pretrain.version import VersionError, find_version
from tests.pretrain.batches import unit_array as unit


def figures_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in rows}


class Embedded(torch.nn.Module):
    """What clip_benchmark calls a model: its inputs are numbers of rows of given vectors."""

    def __init__(self, image_PD: np.ndarray, text_TD: np.ndarray) -> None:
        super().__init__()
        self.image_PD, self.text_TD = torch.from_numpy(image_PD), torch.from_numpy(text_TD)

    def encode_image(self, rows: torch.Tensor) -> torch.Tensor:
        return self.image_PD[rows]

    def encode_text(self, rows: torch.Tensor) -> torch.Tensor:
        return self.text_TD[rows]


@pytest.mark.family("F32")
def test_retrieval_agrees_exactly_with_clip_benchmark() -> None:
    """The same vectors through clip_benchmark's `evaluate`, in batches, with several captions a picture."""
    image_PD, text_TD = unit(60, 12, seed=0), unit(180, 12, seed=1)
    own_T = np.arange(180) // 3
    text_TD = (text_TD + 0.8 * image_PD[own_T]).astype(np.float64)
    text_TD /= np.linalg.norm(text_TD, axis=1, keepdims=True)
    batches = [
        (
            torch.arange(start, start + 20),
            [[str(3 * n), str(3 * n + 1), str(3 * n + 2)] for n in range(start, start + 20)],
        )
        for start in (0, 20, 40)
    ]
    tokenizer = lambda texts: torch.tensor([int(text) for text in texts])  # noqa: E731
    theirs = zeroshot_retrieval.evaluate(
        Embedded(image_PD, text_TD), batches, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10]
    )
    names = [str(n) for n in range(60)]
    positive = np.zeros((180, 60), dtype=bool)
    positive[np.arange(180), own_T] = True
    texts = Side("text", text_TD, [str(n) for n in range(180)], [str(n) for n in own_T])
    found, _ = match("s", texts, Side("image", image_PD, names, names), positive)
    for k in (1, 5, 10):
        mine = {row["direction"]: row["value"] for row in found.figures if row["metric"] == f"recall_at_{k}"}
        # theirs are means in float32
        assert np.float32(mine["text_to_image"]) == np.float32(theirs[f"image_retrieval_recall@{k}"])
        assert np.float32(mine["image_to_text"]) == np.float32(theirs[f"text_retrieval_recall@{k}"])


@pytest.mark.family("F32")
def test_zero_shot_agrees_exactly_with_clip_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    # its `accuracy` makes a number of an array of one value, which NumPy refuses since 2.5
    monkeypatch.setattr(zeroshot_classification, "float", lambda value: np.asarray(value).item(), raising=False)
    names, prompts = [f"class {n}" for n in range(9)], ["a photo of a {c}.", "{c}", "an image of {c}"]
    texts = [prompt.format(c=name) for name in names for prompt in prompts]
    place = {text: index for index, text in enumerate(texts)}
    text_TD = np.random.default_rng(2).normal(size=(len(texts), 10))
    label_P = np.random.default_rng(3).integers(0, 9, 120)
    image_PD = unit(120, 10, seed=4) + 0.25 * unit(9, 10, seed=5)[label_P]

    class Loader(list):  # type: ignore[type-arg]
        dataset = type("Classes", (), {"classes": names})

    batches = Loader([(torch.arange(s, s + 40), torch.from_numpy(label_P[s : s + 40])) for s in (0, 40, 80)])
    theirs = zeroshot_classification.evaluate(
        Embedded(image_PD, text_TD), batches, lambda some: torch.tensor([place[text] for text in some]), names, prompts,
        "cpu", amp=False,
    )  # fmt: skip
    image_PD = image_PD / np.linalg.norm(image_PD, axis=1, keepdims=True)
    class_CD = class_vectors(
        lambda some: text_TD[[place[text] for text in some]], names, tuple(p.replace("{c}", "{}") for p in prompts)
    )
    scores_PC = image_PD @ class_CD.T
    assert within_top(scores_PC, label_P, 1).mean() == theirs["acc1"]
    assert within_top(scores_PC, label_P, 5).mean() == theirs["acc5"]


def test_chance_of_ranks_equals_simulation() -> None:
    generator = np.random.default_rng(6)
    num_positives = np.array([1, 2, 5, 12])
    orders = generator.random((20_000, 30)).argsort(axis=1)
    mean, variance = chance_rank_moments(num_positives, 30)
    reciprocal = chance_reciprocal_rank(num_positives, 30)
    for place, m in enumerate(num_positives):
        drawn = np.where(orders < m, np.arange(30), 30).min(axis=1) + 1
        assert mean[place] == pytest.approx(drawn.mean(), rel=0.03)
        assert variance[place] == pytest.approx(drawn.var(), rel=0.05)
        assert reciprocal[place] == pytest.approx((1 / drawn).mean(), rel=0.03)


@pytest.mark.family("F09")
def test_rank_variance_of_a_random_model_is_chance() -> None:
    generator = np.random.default_rng(7)
    rows = figures_of(rank_variance_rows(generator.integers(1, 41, size=(400, 3)), np.ones((400, 3), dtype=int), 40))
    for row in rows.values():
        room = (row["hi"] - row["lo"]) / 2
        assert row["lo"] - room <= row["chance"] <= row["hi"] + room  # that of the deviation is drawn itself
        assert row["lo"] <= row["value"] <= row["hi"]
    assert rows["mean_rank_variance"]["chance"] == pytest.approx((40**2 - 1) / 12 * 2 / 3)
    same = figures_of(rank_variance_rows(np.tile(generator.integers(1, 41, size=(30, 1)), 3), np.ones((30, 3)), 40))
    assert same["mean_rank_variance"]["value"] == same["mean_rank_deviation"]["hi"] == 0


def test_common_languages_keep_enough_pictures() -> None:
    languages = [("aa",)] * 30 + [("bb", "cc")] * 25 + [("dd",)] * 5
    own = np.zeros((60, 30), dtype=bool)
    own[np.arange(60), np.r_[0:30, 0:25, 0:5]] = True
    found = common_languages(Suite("s", np.arange(30), [str(n) for n in range(60)], languages, own))
    assert found is not None
    places, names = found
    assert names == ["aa", "bb", "cc"]
    assert places.tolist() == [[n, 30 + n, 30 + n] for n in range(25)]
    assert common_languages(Suite("s", np.arange(30), ["x"] * 30, [("aa",)] * 30, own[:30])) is None


def test_geometry_of_random_vectors_is_what_chance_says() -> None:
    image, text = unit(150, 24, seed=8), unit(300, 24, seed=9)
    own = np.zeros((300, 150), dtype=bool)
    own[np.arange(300), np.arange(300) // 2] = True
    rows = figures_of(geometry_rows(image, text, own))
    assert set(rows) == {"modality_gap", "alignment", "uniformity_images", "uniformity_texts"}
    for name in ("alignment", "uniformity_images", "uniformity_texts"):
        assert rows[name]["lo"] - 0.02 <= rows[name]["chance"] <= rows[name]["hi"] + 0.02
    splits = []
    union, generator = np.concatenate([image, text]), np.random.default_rng(10)
    for _ in range(200):
        order = generator.permutation(450)
        splits.append(np.linalg.norm(union[order[:150]].mean(axis=0) - union[order[150:]].mean(axis=0)))
    assert rows["modality_gap"]["chance"] == pytest.approx(np.sqrt(np.mean(np.square(splits))), rel=0.05)
    assert rows["alignment"]["value"] == pytest.approx(np.mean((text * image[np.arange(300) // 2]).sum(axis=1)))
    shifted = figures_of(geometry_rows(image + np.eye(1, 24), text, own))["modality_gap"]
    assert shifted["lo"] > rows["modality_gap"]["chance"]


def test_uniformity_of_random_directions() -> None:
    assert random_uniformity(3) == pytest.approx(uniformity(unit(3000, 3, seed=11)), abs=0.02)
    assert random_uniformity(64) == pytest.approx(uniformity(unit(1500, 64, seed=12)), abs=0.01)


@pytest.mark.family("F11")
def test_every_two_streams_are_matched_where_both_are_there() -> None:
    image, audio, video = unit(40, 8, seed=13), unit(40, 8, seed=14), unit(40, 8, seed=15)
    present = {name: np.ones(40, dtype=bool) for name in ("image", "audio", "video")}
    present["audio"][:10] = False
    uids = [f"u{n}" for n in range(40)]
    found = between_streams("segments", {"image": image, "audio": image + 0.1 * audio, "video": video}, present, uids)
    assert {row["direction"] for row in found.figures} == {
        "audio_to_image", "image_to_audio", "audio_to_video", "video_to_audio", "image_to_video", "video_to_image",
    }  # fmt: skip
    rows = {(row["direction"], row["metric"]): row for row in found.figures}
    assert rows["audio_to_image", "recall_at_1"]["value"] == 1
    assert rows["audio_to_image", "recall_at_1"]["n"] == 30
    random = rows["image_to_video", "recall_at_10"]
    assert random["chance"] == pytest.approx(0.25)
    assert random["lo"] <= random["chance"] <= random["hi"]
    assert rows["image_to_video", "modality_gap"]["lo"] >= 0
    ranks = [row for row in found.outcomes if (row["direction"], row["measure"]) == ("video_to_image", RANK)]
    assert len(ranks) == 40


@pytest.mark.family("F12")
def test_a_mean_of_frames_loses_nothing_when_they_are_shuffled() -> None:
    films = [np.random.default_rng(n).normal(size=(4, 6)) for n in range(30)]
    uids = [f"u{n}" for n in range(30)]
    norm = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    own = np.eye(30, dtype=bool)

    def rows(encode: Any) -> dict[str, dict[str, Any]]:
        mixed = [film[shuffled_order(uid, len(film))] for film, uid in zip(films, uids, strict=True)]
        return figures_of(shuffled_frames("f", encode(films), encode(films), encode(mixed), own, uids, uids).figures)

    mean = rows(lambda some: norm(np.stack([film.mean(axis=0) for film in some])))
    assert mean["recall_at_1_in_order"]["value"] == mean["recall_at_1_frames_shuffled"]["value"] == 1
    assert mean["recall_at_1_shuffle_drop"]["hi"] == 0
    ordered = rows(lambda some: norm(np.stack([film.reshape(-1) for film in some])))
    assert ordered["recall_at_1_in_order"]["value"] == 1
    assert ordered["recall_at_1_shuffle_drop"]["lo"] > 0
    for name in uids:
        order = shuffled_order(name, 5)
        assert sorted(order) == list(range(5)) != order.tolist()
    assert shuffled_order("u", 1).tolist() == [0]


@pytest.mark.family("F09")
@pytest.mark.family("F32")
def test_the_job_writes_every_figure_and_what_it_is_made_of(tmp_path: Path) -> None:
    version = write_version(tmp_path, [sample(n, "val" if n % 5 < 3 else "train") for n in range(48)])
    run = train(config(name="judged", steps=4), tmp_path, "serial", progress=lambda _: None).folder
    rows = evaluate(run, tmp_path, progress=lambda _: None)
    suites = {(row["suite"], row["metric"]) for row in rows}
    for suite in ("held_out_pictures", "held_out_languages"):
        wanted = ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank", "modality_gap", "alignment")
        assert suites >= {(suite, metric) for metric in (*wanted, "uniformity_images", "uniformity_texts")}
    assert ("held_out_pictures", "mean_rank_variance") in suites
    across = [row for row in rows if row["suite"] == "held_out_pictures:texts_in_aa" and row["language"] is None]
    assert {row["metric"] for row in across} == {"recall_at_1", "recall_at_5", "recall_at_10", "median_rank"}
    assert all(row["lo"] > row["chance"] for row in across if row["metric"] != "median_rank")  # F09 (e)
    assert suites >= {("labels:category", f"{kind}_top_1") for kind in ("zero_shot", "nearest_neighbours")}
    assert all(row["lo"] is not None and row["hi"] is not None and row["chance"] is not None for row in rows)
    assert {row["run"] for row in rows} == {run.name}
    assert {row["version"] for row in rows} == {version.folder.name}
    outcomes = files.read(evaluation_files(run, version)[1])
    for suite, direction in (("held_out_languages", "text_to_image"), ("held_out_pictures", "image_to_text")):
        mine = [
            row["value"] for row in outcomes
            if (row["suite"], row["direction"], row["measure"]) == (suite, direction, RANK)
        ]  # fmt: skip
        wanted = (suite, direction, "recall_at_5", None)
        names = ("suite", "direction", "metric", "language")
        figure = next(row for row in rows if tuple(row[name] for name in names) == wanted)
        assert np.mean(np.array(mine) <= 5) == pytest.approx(figure["value"])
    weights = load_file(run / WEIGHTS_FILE)
    diverged = tmp_path / "models" / "diverged"
    shutil.copytree(run, diverged, ignore=shutil.ignore_patterns("*.parquet"))
    spoiled = {name: value.clone().fill_(torch.nan) if ".text." in name else value for name, value in weights.items()}
    save_file(spoiled, diverged / WEIGHTS_FILE)
    with pytest.raises(EvaluationError, match=r"vectors of text: .* not finite.*diverged"):
        evaluate(diverged, tmp_path, progress=lambda _: None)
    assert not list(diverged.glob("*.parquet"))
    elsewhere = evaluate(run, tmp_path / "empty", str(version.folder), progress=lambda _: None)
    assert elsewhere == rows  # a version by its path; the answer is there already
    with pytest.raises(VersionError, match="no sealed dataset version"):
        find_version(tmp_path, "no/such/folder")


def segment_config(**streams: Any) -> TrainConfig:
    transformer = {"use": "pretrain.encoders.transformer.Transformer", "layers": 1, "heads": 2}
    frame = {"use": "pretrain.embeddings.pictures.Patches", "width": 16, "patch_size": 8}
    known = {
        "text": {"embedding": {"use": "pretrain.embeddings.byte_tokens.ByteTokens", "width": 16, "max_tokens": 16},
                 "encoder": transformer},
        "audio": {"embedding": {"use": "pretrain.embeddings.audio.LogMel", "width": 16, "num_mels": 20,
                                "max_seconds": 2}, "encoder": transformer},
        "video": {"embedding": {"use": "pretrain.embeddings.video.EachFrame", "num_frames": 4, "frame": frame},
                  "encoder": {"use": "pretrain.encoders.frames.FrameEncoder", "layers": streams.pop("layers", 1),
                              "heads": 2, "frame": transformer}},
    }  # fmt: skip
    return config(
        model={"embed_dim": 16, "streams": known}, image_size=32,
        targets=[{"use": "pretrain.targets.info_nce.InfoNCE", "a": "audio", "b": "text"}],
    )  # fmt: skip


@pytest.mark.family("F11")
@pytest.mark.family("F12")
def test_held_out_segments_are_matched_between_their_streams(tmp_path: Path) -> None:
    """Two of six lack something; the film of one mean-of-frames model loses nothing when its frames are shuffled."""
    rows = [{**segment(n, sound=n != 2, texts=n != 3), "split": "val"} for n in range(6)]
    version = write_segments(tmp_path, [*rows, {**segment(6), "split": "train"}])
    torch.manual_seed(0)
    for layers in (0, 1):
        settings = segment_config(layers=layers)
        scorer: Any = SimpleNamespace(model=settings.model.build(32).eval(), device=torch.device("cpu"))
        found = by_streams(scorer, settings, version, tmp_path / "cache", lambda _: None)
        figures = {(row["direction"], row["metric"]): row for row in found.figures}
        assert {row["suite"] for row in found.figures} == {"held_out_segments"}
        counts = {
            pair: figures[pair, "recall_at_1"]["n"] for pair in ("audio_to_text", "audio_to_video", "text_to_video")
        }
        assert counts == {"audio_to_text": 4, "audio_to_video": 5, "text_to_video": 5}
        ordered = figures["text_to_video", "recall_at_1"]["value"]
        assert figures["text_to_video", "recall_at_1_in_order"]["value"] == ordered
        assert layers or figures["text_to_video", "recall_at_1_shuffle_drop"]["hi"] == 0
    made = stream_vectors(scorer, settings, version, tmp_path / "cache")
    assert sorted(made.uids) == sorted(uid("segment", n) for n in range(7))
    assert made.shuffled_ND is not None
    assert np.abs(made.shuffled_ND - made.vectors["video"]).max() > 1e-4  # with layers the order matters
    assert made.present["audio"].sum() == 6
    pictures = write_version(tmp_path / "b", [sample(1), sample(2)])
    assert not by_streams(scorer, settings, pictures, tmp_path / "cache", lambda _: None).figures


def test_ranks_are_those_of_both_sides() -> None:
    a, b = unit(7, 4, seed=20), unit(5, 4, seed=21)
    own = np.zeros((7, 5), dtype=bool)
    own[np.arange(7), np.arange(7) % 5] = True
    sides = Side("audio", a, list("abcdefg"), list("abcdeab")), Side("text", b, list("abcde"), list("abcde"))
    found, ranks = match("s", *sides, own)
    assert ranks.tolist() == first_ranks(a @ b.T, own).tolist()
    assert [row["value"] for row in found.outcomes if row["direction"] == "audio_to_text"] == ranks.tolist()
