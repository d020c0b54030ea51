"""Exchanged captions in training: what is read of a version, whose weights it goes through, and that it is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch
from tiny import loader_of, sample, write_version

from curation.caption_parser import negatives
from pretrain.config import ConfigError, TrainConfig, parse_config
from pretrain.engine import Engine
from pretrain.objective import Objective
from pretrain.preflight import check_run
from pretrain.targets.exchanged import Exchanged
from tests.pretrain.batches import unit
from tests.pretrain.stream_batches import batch_of, loss_of

pytestmark = pytest.mark.family("F07")
NAMES = ("dog", "cat", "fox", "hen", "cow", "pig", "owl", "bee")
NEGATIVES = pa.list_(pa.struct([("text", pa.string()), ("kind", pa.string())]))
SCHEMA = pa.schema(
    [
        *(field for field in tiny.SCHEMA if field.name != "texts"),
        ("texts", pa.list_(pa.struct([*tiny.TEXT, ("caption_negatives", NEGATIVES)]))),
    ]
)


def caption(number: int) -> str:
    one, other = NAMES[number % 8], NAMES[(number // 8 * 3 + number + 1) % 8]
    return f"A {one} on a {other}" if number % 5 else f"A red {one} on a blue {other}"


def samples(count: int) -> list[dict[str, Any]]:
    """Each with a caption whose things can be exchanged, and with one of which nothing is said."""
    made = [sample(number) for number in range(count)]
    for number, each in enumerate(made):
        first, second = each["texts"][0], each["texts"][1]
        first |= {"text": caption(number), "languages": ["en"], "language": "en"}
        found = [{"text": text, "kind": kind} for kind, text in negatives(caption(number))]
        first["caption_negatives"], second["caption_negatives"] = found, None
        each["texts"] = [first, second]
    return made


def config_of(**changes: Any) -> TrainConfig:
    reading = {
        "embedding": {"use": "pretrain.embeddings.byte_tokens.ByteTokens", "width": 32, "max_tokens": 32},
        "encoder": {"use": "pretrain.encoders.transformer.Transformer", "layers": 1, "heads": 2},
    }
    spec = tiny.spec(where=[], exclude_languages=[], augment=False, **changes)
    spec["model"]["streams"] |= {"text": reading, "negative": {**reading, "source": "texts.caption_negatives"}}
    spec["model"]["shared"] = ["text", "negative"]
    spec["targets"] = [{"use": "pretrain.targets.info_nce.InfoNCE"}, {"use": "pretrain.targets.exchanged.Exchanged"}]
    return parse_config(spec)


def test_the_hinge_is_its_formula() -> None:
    batch = batch_of(5, present={"negative": torch.tensor([True, False, True, True, True])})
    batch.vectors["negative"] = unit(5, batch.vectors["image"].shape[1], seed=7)
    image, text, wrong = (batch.vectors[name].numpy() for name in ("image", "text", "negative"))
    losses = [max(0.0, 0.2 - image[row] @ text[row] + image[row] @ wrong[row]) for row in (0, 2, 3, 4)]
    assert float(loss_of(Exchanged(), batch)) == pytest.approx(np.mean(losses), rel=1e-5)
    batch.vectors["negative"] = batch.vectors["text"]  # a bag of words gives both one vector
    assert float(loss_of(Exchanged(), batch)) == pytest.approx(0.2, rel=1e-5)
    with pytest.raises(ValueError, match="three streams"):
        Exchanged(negative="text")


def test_each_text_comes_with_one_of_its_own(tmp_path: Path) -> None:
    version = write_version(tmp_path, samples(24), schema=SCHEMA)
    loader = loader_of(version, tmp_path, config_of(batch_size=24, captions_per_image=2))
    of_caption = {caption(number): {text for _, text in negatives(caption(number))} for number in range(24)}
    seen: dict[str, set[str]] = {}
    for step in range(8):
        raw = loader.reader.raw(step)
        said = raw.said["texts.caption_negatives"]
        assert len(said) == len(raw.texts) == 48
        for text, negative in zip(raw.texts, said, strict=True):
            seen.setdefault(text, set()).add(negative)
        halves = [loader.reader.raw(step, rank, 2).said["texts.caption_negatives"] for rank in range(2)]
        assert [*halves[0], *halves[1]] == said
        (piece,) = loader.ready(step, raw).pieces
        assert piece.present["negative"].tolist() == [bool(each) for each in said]
        assert piece.present["negative"].any()
        assert not piece.present["negative"].all()
    assert all(found == (of_caption.get(text) or {""}) for text, found in seen.items())
    assert max(map(len, seen.values())) == 2  # of two, both are drawn in time


def test_both_go_through_one_tower_of_which_all_is_shared() -> None:
    model: Any = config_of().model.build(16)
    text, negative = model.streams["text"], model.streams["negative"]
    for name in ("embedding", "encoder", "projection"):
        assert getattr(text, name) is getattr(negative, name)
    words = ["A dog on a cat", "A cat on a dog"]
    one, other = (model.encode(name, model.prepare(name, words)) for name in ("text", "negative"))
    assert torch.equal(one, other)
    assert (one[0] - one[1]).abs().max() > 1e-4
    image: Any = config_of().model.build(16).streams["image"]  # type: ignore[attr-defined]
    assert image.embedding is not text.embedding


def test_the_order_of_words_is_learned(tmp_path: Path) -> None:
    """Every picture is nearer to its caption than to the caption with its two things exchanged."""
    version = write_version(tmp_path, samples(16), schema=SCHEMA)
    config = config_of(batch_size=16, captions_per_image=2, steps=60, lr=0.01, warmup_steps=5)
    loader = loader_of(version, tmp_path, config)
    torch.manual_seed(0)
    objective = Objective(config.model.build(16), config)
    engine = Engine(objective, config, torch.device("cpu"))
    hinge = [engine.step(ready, 0.005)[0]["1_Exchanged"].item() for ready in loader.batches(0, 60)]
    assert hinge[0] > 0.15
    assert np.mean(hinge[-5:]) < 0.02


def test_a_field_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    version = write_version(tmp_path, [sample(number) for number in range(16)])
    with pytest.raises(ConfigError, match=r"'texts\.caption_negatives'.*no such field.*texts\.language.*texts\.text"):
        check_run(config_of(), [version])


@pytest.mark.family("F06")
def test_a_batch_whose_pictures_are_all_damaged_is_skipped(tmp_path: Path) -> None:
    """F06 (e), in training: nothing counts, nothing is not finite, the weights stay what they are but for decay."""
    broken = [{**each, "image": b"GIF89a, but not really"} for each in samples(16)]
    version = write_version(tmp_path, broken, schema=SCHEMA)
    config = config_of(batch_size=16, pictures="streamed", weight_decay=0.0)
    loader = loader_of(version, tmp_path, config)
    objective = Objective(loader._model, config)
    engine = Engine(objective, config, torch.device("cpu"))
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    ready = loader.ready(0, loader.reader.raw(0))
    assert ready.num_damaged["image"] == 16
    losses, norm = engine.step(ready, 0.01)
    assert float(losses["loss"]) == float(norm) == 0
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())
