"""Masked language, image and multimodal modelling: what is masked, what is scored, and what stays out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from assembled import FUSIONS, PATCH, assembled, batch_of, objective_of, overfit

from pretrain.embeddings.base import Tokens
from pretrain.embeddings.byte_tokens import VOCABULARY, ByteTokens
from pretrain.embeddings.pictures import patches_of
from pretrain.masking import choose, mask_ids
from pretrain.objective import Objective
from pretrain.targets.base import masked, truth

LANGUAGE = {"use": "masked_language.MaskedLanguage", "given": ["image"], "rate": 0.3}
ALONE = {"use": "masked_language.MaskedLanguage", "given": [], "rate": 0.3}
IMAGE = {"use": "masked_image.MaskedImage", "rate": 0.5}
BOTH = {"use": "masked_multimodal.MaskedMultimodal", "text_rate": 0.3, "image_rate": 0.5}


def built(*targets: dict[str, Any]) -> Objective:
    return objective_of(assembled(list(targets), fusion=FUSIONS["single_stream"]))


@pytest.mark.family("F25")
@pytest.mark.parametrize("rate", [0.0, 0.15, 0.4, 0.9])
def test_the_share_is_exact(rate: float) -> None:
    """F25 (b)."""
    candidates = torch.arange(40)[None, :] < torch.tensor([0, 1, 2, 7, 33, 40])[:, None]
    chosen = choose(candidates, rate, torch.arange(6), 7)
    expected = [0 if n == 0 or rate == 0 else max(1, round(rate * n)) for n in (0, 1, 2, 7, 33, 40)]
    assert chosen.sum(dim=1).tolist() == expected
    assert not bool((chosen & ~candidates).any())


def test_masking_replaces_as_bert_does_and_spares_special_tokens() -> None:
    ids = ByteTokens(max_tokens=96).prepare(["x" * 90] * 60)["ids_BL"]
    replaced, chosen = mask_ids(ids, VOCABULARY, 0.5, torch.arange(60), 3)
    assert bool((replaced[~chosen] == ids[~chosen]).all())
    assert not bool((chosen & ~VOCABULARY.ordinary(ids)).any())
    to_mask, kept = replaced[chosen] == VOCABULARY.mask, replaced[chosen] == ids[chosen]
    number = int(chosen.sum())
    for found, share in ((to_mask, 0.8), (kept, 0.1)):
        assert abs(int(found.sum()) / number - share) < 4 * (share * (1 - share) / number) ** 0.5 + 0.003
    again, _ = mask_ids(ids[10:20], VOCABULARY, 0.5, torch.arange(10, 20), 3)
    torch.testing.assert_close(again, replaced[10:20])  # a share of the batch draws what the whole batch draws
    other, _ = mask_ids(ids, VOCABULARY, 0.5, torch.arange(60), 4)
    assert not torch.equal(other, replaced)


def test_patches_are_cut_row_by_row() -> None:
    image = torch.arange(2 * 3 * 4 * 4).float().view(2, 3, 4, 4)
    patches = patches_of(image, 2)
    assert patches.shape == (2, 4, 12)
    torch.testing.assert_close(patches[1, 1], image[1, :, 0:2, 2:4].flatten())


@pytest.mark.family("F25")
@pytest.mark.parametrize("target", [LANGUAGE, ALONE, IMAGE, BOTH], ids=["language", "alone", "image", "both"])
def test_only_masked_places_are_scored(target: dict[str, Any]) -> None:
    """F25 (a): the gradient at what the heads say of visible places is zero, and the loss is its definition."""
    objective = built(target)
    encoded = objective.encode(batch_of(objective))
    module: Any = next(iter(objective.targets.values()))
    said: dict[str, torch.Tensor] = {}
    heads = {"text": getattr(module, "words", None), "image": getattr(module, "pixels", None)}
    if hasattr(module, "head"):
        heads = {module.stream: module.head}
    for name, head in heads.items():
        head.register_forward_hook(lambda _m, _i, out, name=name: (out.retain_grad(), said.update({name: out}))[1])
    loss = objective.losses(encoded)["loss"]
    loss.backward()
    expected = torch.zeros(())
    for name, out in said.items():
        mask = encoded.columns[masked(name)][:, : out.shape[1]]
        assert out.grad is not None
        assert not bool(out.grad[~mask].any())
        assert bool(out.grad[mask].any(dim=-1).all())
        true = encoded.columns[truth(name)][:, : out.shape[1]]
        if name == "text":
            expected = expected + F.cross_entropy(out[mask], true[mask])
        else:
            wanted = true[mask]
            wanted = (wanted - wanted.mean(1, keepdim=True)) / (wanted.var(1, keepdim=True) + 1e-6).sqrt()
            expected = expected + (out[mask] - wanted).square().mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.family("F25")
def test_a_row_without_the_stream_adds_nothing() -> None:
    """F25 (c): an image-only row adds nothing to masked language and the other way round."""
    for target, lacking in ((LANGUAGE, "text"), (ALONE, "text"), (IMAGE, "image"), (LANGUAGE, "image")):
        objective = built(target)
        batch = batch_of(objective)
        batch.present = {lacking: torch.tensor([True, False, True, True, False, True])}
        first = objective(batch)["loss"].item()
        name = "image_BCHW" if lacking == "image" else "ids_BL"
        changed = batch_of(objective, seed=9).inputs[lacking][name][~batch.present[lacking]]
        if lacking == "image":
            batch.inputs[lacking][name][~batch.present[lacking]] = changed
        else:
            batch.inputs[lacking][name][~batch.present[lacking], 1:4] = 70
        assert objective(batch)["loss"].item() == pytest.approx(first, rel=1e-5)
        batch.present = {lacking: torch.zeros(6, dtype=torch.bool)}
        nothing = objective(batch)["loss"]
        nothing.backward()
        assert nothing.item() == 0
        assert all(bool(torch.isfinite(p.grad).all()) for p in objective.parameters() if p.grad is not None)


@pytest.mark.family("F25")
def test_nothing_masked_is_no_loss() -> None:
    """F25 (d)."""
    objective = built({**LANGUAGE, "rate": 0.0}, {**IMAGE, "rate": 0.0}, {**BOTH, "text_rate": 0.0, "image_rate": 0.0})
    losses = objective(batch_of(objective))
    losses["loss"].backward()
    assert [loss.item() for loss in losses.values()] == [0.0] * 4


@pytest.mark.family("F29")
def test_both_masked_works_with_either_missing() -> None:
    """F29 (a): no NaN, and a row counts for what it has."""
    objective = built(BOTH)
    batch = batch_of(objective)
    batch.present = {
        "image": torch.tensor([True, False, True, True, False, True]),
        "text": torch.tensor([False] + [True] * 5),
    }
    encoded = objective.encode(batch)
    loss = objective.losses(encoded)["loss"]
    loss.backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in objective.parameters())
    for name in ("image", "text"):
        counted = encoded.columns[masked(name)] & batch.present[name][:, None]
        assert int(counted.any(dim=1).sum()) == int(batch.present[name].sum())


@pytest.mark.family("F25")
def test_masked_words_are_learned_from_the_picture() -> None:
    objective = built({**LANGUAGE, "rate": 0.5})
    batch = batch_of(objective)
    first = objective(batch)["loss"].item()
    assert overfit(objective, batch, 60) < 0.35 * first
    with torch.no_grad():
        encoded = objective.encode(batch)
        objective.losses(encoded)
        right = objective.losses(encoded)["loss"].item()
        swapped = dict(encoded.tokens)
        image = swapped["image:hidden"]
        swapped["image:hidden"] = Tokens(image.x_BLW.roll(1, 0))
        encoded.tokens = swapped
        assert objective.losses(encoded)["loss"].item() > right


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="shown whole, it would give the answer"):
        assembled([{**LANGUAGE, "given": ["text"]}], fusion=FUSIONS["single_stream"])
    with pytest.raises(ValueError, match=r"needs model.fusion"):
        assembled([BOTH])
    with pytest.raises(ValueError, match=r"different shares of 'text' masked: 0.3 and 0.2"):
        assembled([LANGUAGE, {**ALONE, "rate": 0.2}], fusion=FUSIONS["single_stream"])
    with pytest.raises(ValueError, match=r"wants fused tokens of 'image'.*: text"):
        assembled([{**IMAGE, "given": ["text"]}], fusion=FUSIONS["cross_attention"])
    assert PATCH == 8
