"""Retrieval by single tokens that lie on disk, and distances inside a fusion, as the evaluation job gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import config, sample, write_version

from pretrain.checked import EvaluationError
from pretrain.embeddings.base import Tokens
from pretrain.evaluate import evaluate
from pretrain.evaluate_tokens import part_of
from pretrain.metrics import first_ranks
from pretrain.run import train
from pretrain.suites import Suite
from pretrain.targets.late_interaction import best_matches
from pretrain.token_cache import cached_tokens, late_ranks
from tests.pretrain.batches import unit

TRANSFORMER = {"use": "pretrain.encoders.transformer.Transformer", "layers": 1, "heads": 2}
STREAMS = {
    "image": {"embedding": {"use": "pretrain.embeddings.pictures.Patches", "width": 16, "patch_size": 8},
              "encoder": TRANSFORMER},
    "text": {"embedding": {"use": "pretrain.embeddings.byte_tokens.ByteTokens", "width": 16, "max_tokens": 12},
             "encoder": TRANSFORMER},
}  # fmt: skip
FUSION = {"use": "pretrain.fusions.single_stream.SingleStream", "width": 16, "layers": 2, "heads": 2}


@pytest.mark.family("F20")
def test_ranks_from_the_cache_are_those_of_live_tokens(tmp_path: Path) -> None:
    """F20 (d): texts of other lengths, padding that would win every comparison, files that are read again."""
    image, text = unit(30, 5, 8, seed=0), unit(40, 6, 8, seed=1)
    own_T = torch.arange(40) % 30
    text[:, 0] = torch.nn.functional.normalize(text[:, 0] + image[own_T, 0], dim=-1)
    mask = torch.arange(6)[None, :] < (1 + torch.arange(40) % 6)[:, None]
    text[~mask] = 100.0
    live = {"image": Tokens(image), "text": Tokens(text, mask)}
    calls: list[int] = []

    def encode(kind: str) -> Any:
        def some(places: Sequence[int]) -> Tokens:
            calls.append(len(places))
            each, chosen = live[kind], list(places)
            return Tokens(each.x_BLW[chosen], None if each.mask_BL is None else each.mask_BL[chosen])

        return some

    for _ in range(2):
        names = {"image": [f"i{n}" for n in range(30)], "text": [f"t{n}" for n in range(40)]}
        sets = {kind: cached_tokens(tmp_path / f"{kind}.parquet", names[kind], encode(kind), 16) for kind in live}
        assert calls == [16, 14, 16, 16, 8]  # the second time from the files
        right = torch.nn.functional.one_hot(own_T, 30).bool().numpy()
        for query, candidate, positive in (("text", "image", right), ("image", "text", right.T)):
            scores = best_matches(live[query], live[candidate]).numpy()
            assert late_ranks(sets[query], sets[candidate], positive).tolist() == first_ranks(scores, positive).tolist()
    assert (tmp_path / "text.parquet").stat().st_size < 40 * 6 * 8 * 4
    with pytest.raises(EvaluationError, match="holds the tokens of other things"):
        cached_tokens(tmp_path / "image.parquet", ["other"], encode("image"), 16)
    bad = Tokens(torch.full((1, 2, 3), 1e6))
    with pytest.raises(EvaluationError, match="x: 2 tokens, which must be some, and finite as half floats"):
        cached_tokens(tmp_path / "bad.parquet", ["x"], lambda _: bad, 1)
    assert not (tmp_path / "bad.parquet").exists()


@pytest.mark.family("F20")
@pytest.mark.family("F32")
def test_a_run_is_evaluated_by_its_tokens_and_inside_its_fusion(tmp_path: Path) -> None:
    write_version(tmp_path, [sample(n, "val" if n % 3 == 0 else "train") for n in range(36)])
    targets = [
        {"use": "pretrain.targets.late_interaction.LateInteraction"},
        {"use": "pretrain.targets.matching.ImageTextMatching"},
    ]
    model = {"embed_dim": 8, "streams": STREAMS, "fusion": FUSION}
    run = train(config(name="late", steps=2, model=model, targets=targets), tmp_path, "serial", progress=lambda _: None)
    rows = evaluate(run.folder, tmp_path, progress=lambda _: None)
    figures = {(row["suite"], row["direction"], row["metric"]): row for row in rows if row["language"] is None}
    for direction in ("text_to_image", "image_to_text"):
        row = figures["held_out_pictures:tokens", direction, "recall_at_5"]
        plain = figures["held_out_pictures", direction, "recall_at_5"]
        assert (row["n"], row["num_candidates"]) == (plain["n"], plain["num_candidates"])  # few enough to ask all
        assert row["lo"] <= row["value"] <= row["hi"]
        assert row["chance"] == pytest.approx(plain["chance"])
    assert len(list((tmp_path / "cache" / "tokens").glob("*.parquet"))) == 4  # two suites, two kinds
    distance = figures["held_out_pictures", None, "modality_distance"]
    rate = figures["held_out_pictures", None, "modality_integration_rate"]
    assert rate["value"] == pytest.approx(np.log10(distance["value"]))
    assert distance["value"] > distance["hi"] / 3 > distance["chance"]  # the two kinds lie apart, halves of all do not
    assert rate["lo"] <= rate["hi"]


def test_a_part_of_a_suite_keeps_what_belongs_together() -> None:
    own = np.zeros((900, 300), dtype=bool)
    own[np.arange(900), np.arange(900) % 300] = True
    own[0, 7] = True
    suite = Suite(
        "s", np.arange(300), [f"t{n}" for n in range(900)], [("en",)] * 900, own, [f"u{n}" for n in range(300)]
    )
    part = part_of(suite)
    assert len(part.rows) <= 200
    assert len(part.texts) == 500
    assert part.positive_TP.any(axis=0).all()
    assert part.positive_TP.any(axis=1).all()
    for place, text in enumerate(part.texts):
        columns = np.flatnonzero(part.positive_TP[place])
        assert {int(part.rows[column]) for column in columns} <= set(np.flatnonzero(own[int(text[1:])]).tolist())
    assert part_of(part).texts == part.texts
