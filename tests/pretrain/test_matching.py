"""pretrain/targets/matching.py: true negatives only, and a pair of twos that it learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from assembled import FUSIONS, assembled, batch_of, objective_of, overfit

from pretrain.embeddings.base import Tokens
from pretrain.objective import Objective
from pretrain.targets.base import Encoded, hidden
from pretrain.targets.matching import MatchingLoss
from pretrain.targets.negatives import draw_negatives

MATCHING = {"use": "matching.ImageTextMatching"}


@pytest.mark.family("F24")
def test_negatives_are_never_of_the_same_group() -> None:
    """F24 (a), over 12,000 draws; and they follow the softmax over those that are allowed."""
    group = torch.tensor([0, 0, 1, 2, 2, 3])
    allowed = group[:, None] != group[None, :]
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    counts = torch.zeros(6, 6)
    for salt in range(2000):
        drawn, found = draw_negatives(logits, allowed, torch.arange(6), salt)
        assert bool(found.all())
        assert bool((group[drawn] != group).all())
        counts[torch.arange(6), drawn] += 1
    expected = 2000 * logits.masked_fill(~allowed, float("-inf")).softmax(dim=1)
    assert float(((counts - expected).abs() / expected.clamp(min=1).sqrt()).max()) < 4.5
    _, found = draw_negatives(logits, torch.zeros_like(allowed), torch.arange(6), 0)
    assert not bool(found.any())


def test_the_loss_is_the_mean_over_true_and_wrong_pairs() -> None:
    objective = objective_of(assembled([MATCHING], fusion=FUSIONS["single_stream"]))
    encoded = objective.encode(batch_of(objective))
    found = objective.losses(encoded)["0_ImageTextMatching"]
    module = objective.targets["0_ImageTextMatching"]
    assert isinstance(module, MatchingLoss)
    image, text = (encoded.tokens[hidden(name)] for name in ("image", "text"))
    allowed, scale = ~torch.eye(6, dtype=torch.bool), module.scale
    similarity = scale * encoded.vectors["image"] @ encoded.vectors["text"].T
    wrong_text, _ = draw_negatives(similarity, allowed, torch.arange(6), module.salt)
    wrong_image, _ = draw_negatives(similarity.T, allowed, torch.arange(6), module.salt ^ (1 << 40))
    total = 0.0
    pairs = (
        [(i, i, 1) for i in range(6)]
        + [(i, int(wrong_text[i]), 0) for i in range(6)]
        + [(int(wrong_image[i]), i, 0) for i in range(6)]
    )
    for picture, caption, is_true in pairs:
        one = {"image": Tokens(image.x_BLW[[picture]]), "text": Tokens(text.x_BLW[[caption]], text.mask_BL[[caption]])}
        scores = module.head(objective.model.parts().fuse(one, {}).pooled_BW)
        total += F.cross_entropy(scores, torch.tensor([is_true])).item()
    assert found.item() == pytest.approx(total / 18, rel=1e-4)


def test_siblings_only_leave_the_true_pairs() -> None:
    objective = objective_of(assembled([MATCHING], fusion=FUSIONS["cross_attention"]))
    batch = batch_of(objective)
    batch.group_B = torch.zeros_like(batch.group_B)
    module = objective.targets["0_ImageTextMatching"]
    loss = objective(batch)["0_ImageTextMatching"]
    encoded = objective.encode(batch)
    objective.losses(encoded)
    assert loss.item() == pytest.approx(-module.is_pair(encoded).log().mean().item(), rel=1e-4)


@pytest.mark.family("F24")
def test_masked_words_are_read_beside_their_own_picture_only() -> None:
    """F24 (b): wrong pairs are drawn for matching; the words' loss, and its gradient, do not know of them."""
    words = {"use": "masked_language.MaskedLanguage", "rate": 0.4}
    found = []
    for targets in ([words], [words, MATCHING]):
        objective = objective_of(assembled(targets, fusion=FUSIONS["single_stream"]))
        batch = batch_of(objective)
        image = batch.inputs["image"]["image_BCHW"].requires_grad_()
        loss = objective(batch)["0_MaskedLanguage"]
        (gradient,) = torch.autograd.grad(loss, image)
        found.append((loss.item(), gradient))
    assert found[1][0] == found[0][0] > 0
    assert torch.equal(found[1][1], found[0][1])
    assert bool(found[0][1].flatten(1).any(dim=1).all())


@pytest.mark.family("F24")
@pytest.mark.parametrize("fusion", ["single_stream", "cross_attention", "experts"])
def test_it_learns_which_belong_together(fusion: str) -> None:
    """F24 (d), with 12 pairs instead of 64, which takes seconds: accuracy above 0.9 over all 144 combinations."""
    targets = [MATCHING, {"use": "info_nce.InfoNCE"}]
    objective = objective_of(assembled(targets, fusion=FUSIONS[fusion]))
    batch = batch_of(objective, pictures=12)
    overfit(objective, batch, 140, lr=2e-3)
    overfit(objective, batch, 60, lr=3e-4)
    assert accuracy(objective, objective.encode(batch)) > 0.9


@torch.no_grad()
def accuracy(objective: Objective, encoded: Encoded) -> float:
    """Share of all combinations of pictures and texts that are judged right, true and wrong ones with equal weight."""
    module = objective.targets["0_ImageTextMatching"]
    image, text = (encoded.tokens[hidden(name)] for name in ("image", "text"))
    number = len(image.x_BLW)
    i, j = (each.flatten() for each in torch.meshgrid(torch.arange(number), torch.arange(number), indexing="ij"))
    fused = objective.model.parts().fuse(
        {"image": Tokens(image.x_BLW[i]), "text": Tokens(text.x_BLW[j], text.mask_BL[j])}, {}
    )
    says = module.head(fused.pooled_BW).argmax(dim=1).bool()
    return float((says[i == j].float().mean() + (~says[i != j]).float().mean()) / 2)
