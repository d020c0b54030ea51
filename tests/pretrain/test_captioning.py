"""pretrain/targets/captioning.py and `Joint.write`: the loss is its definition, and what is learned can be written."""

from __future__ import annotations

import pytest
import torch
from assembled import WRITING, assembled, batch_of, objective_of, overfit

from pretrain.embeddings.byte_tokens import VOCABULARY, ByteTokens
from pretrain.objective import Batch, Objective
from pretrain.targets.base import hidden, ids

CAPTION = {"use": "captioning.Captioning"}
PREFIX = {**WRITING, "decoder": {"use": "pretrain.decoders.prefix.PrefixDecoder", "layers": 2, "heads": 2}}


def captioner(parts: dict[str, object]) -> tuple[Objective, Batch]:
    objective = objective_of(assembled([CAPTION], **parts))
    return objective, batch_of(objective, pictures=8)


@pytest.mark.family("F26")
@pytest.mark.parametrize("parts", [WRITING, PREFIX], ids=["causal", "prefix"])
def test_the_loss_is_a_manual_log_softmax(parts: dict[str, object]) -> None:
    """F26 (d), with one row that lacks its picture and one that lacks its text."""
    objective, batch = captioner(parts)
    batch.present = {"image": torch.arange(8) != 2, "text": torch.arange(8) != 5}
    encoded = objective.encode(batch)
    loss = objective.losses(encoded)["loss"]
    memory, number = {"image": encoded.tokens[hidden("image")]}, encoded.columns[ids("target")]
    total, count = 0.0, 0
    for row in (0, 1, 3, 4, 6, 7):
        only = {"image": type(memory["image"])(memory["image"].x_BLW[[row]])}
        for place in range(1, int((number[row] != VOCABULARY.pad).sum())):
            scores = objective.model.parts().next_token_scores(number[row : row + 1, :place], only, {})[0, -1]
            total -= (scores[number[row, place]] - scores.exp().sum().log()).item()
            count += 1
    assert loss.item() == pytest.approx(total / count, rel=1e-4)


@pytest.mark.family("F26")
@pytest.mark.parametrize("parts", [WRITING, PREFIX], ids=["causal", "prefix"])
def test_captions_are_written_after_overfitting(parts: dict[str, object]) -> None:
    """F26 (b) in small: 8 captions instead of 32, all of them word for word, which needs the picture."""
    objective, batch = captioner(parts)
    overfit(objective, batch, 150, lr=4e-3)
    encoded = objective.encode(batch)
    wanted = ByteTokens().texts(encoded.columns[ids("target")])
    assert len(set(wanted)) == 8
    objective.eval()
    written = objective.model.parts().write({"image": encoded.tokens[hidden("image")]}, 24)
    assert sum(a == b for a, b in zip(ByteTokens().texts(written), wanted, strict=True)) >= 7


@pytest.mark.family("F26")
def test_no_text_has_an_unknown_token() -> None:
    """F26 (c): scripts of many languages survive the round trip; cuts fall between characters."""
    texts = [
        "A frog",
        "ein Frosch",
        "一只青蛙",
        "カエル",
        "개구리",
        "ضفدع",
        "צפרדע",
        "मेंढक",
        "กบ",
        "βάτραχος",
        "лягушка",
        "ბაყაყი",
        "🐸",
        "",
    ]
    embedding = ByteTokens(max_tokens=64)
    assert embedding.texts(embedding.prepare(texts)["ids_BL"]) == texts
    cut = ByteTokens(max_tokens=7).prepare(["一只青蛙"])["ids_BL"]
    assert ByteTokens().texts(cut) == ["一"]
    assert VOCABULARY.end not in cut[0].tolist()


def test_faults_are_named_before_any_data_is_read() -> None:
    for parts, said in (
        ({}, "needs model.decoder"),
        ({"decoder": WRITING["decoder"]}, "needs a target_embedding"),
        ({**WRITING, "decoder": {**WRITING["decoder"], "reads": ["audio"]}}, "audio.*those that do: image, text"),
        (
            {**WRITING, "decoder": {**WRITING["decoder"], "reads": ["text"]}},
            "writes from 'image'; the decoder reads: text",
        ),
        (
            {**WRITING, "decoder": {"use": "pretrain.decoders.causal.Nothing"}},
            "CausalDecoder, pretrain.decoders.prefix",
        ),
        ({**WRITING, "fusion": {"use": "pretrain.fusions.none.None"}}, "fusions.single_stream.SingleStream"),
        ({**WRITING, "target_embedding": {"use": "pretrain.embeddings.ngrams.HashedNgrams"}}, "no vocabulary"),
        ({"through_fusion": True}, "needs a fusion"),
    ):
        with pytest.raises(ValueError, match=said):
            assembled([CAPTION], **parts)
