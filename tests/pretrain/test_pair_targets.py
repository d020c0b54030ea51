"""pretrain/targets between two streams: each against a dull reading of its formula, and its identities."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from batches import SCALE, batch_of, loss_of, unit

from pretrain.embeddings.base import Tokens
from pretrain.targets.base import Encoded
from pretrain.targets.distillation import Distillation
from pretrain.targets.info_nce import InfoNCE
from pretrain.targets.late_interaction import LateInteraction
from pretrain.targets.matryoshka import Matryoshka
from pretrain.targets.one_to_k import OneToK
from pretrain.targets.queue import MomentumQueue
from pretrain.targets.rank import RankConsistency, list_mle
from pretrain.targets.separation import IntraModalSeparation
from pretrain.targets.siglip import SigLIP
from pretrain.targets.soft import SimilarityDistribution, soft_cross_entropy


def test_siglip_is_the_double_loop() -> None:
    group = [0, 0, 1, 2, 1]
    batch = batch_of(5, group=group)
    total = 0.0
    for i in range(5):
        for j in range(5):
            if i != j and group[i] == group[j]:
                continue
            logit = math.exp(SCALE) * float(batch.vectors["image"][i] @ batch.vectors["text"][j]) - 10
            total += math.log1p(math.exp(-logit if i == j else logit))
    assert loss_of(SigLIP(log_scale=SCALE), batch).item() == pytest.approx(total / 5, rel=1e-5)


@pytest.mark.family("F09")
def test_one_text_a_picture_is_info_nce() -> None:
    batch = batch_of(7)
    expected = loss_of(InfoNCE(log_scale=SCALE), batch).item()
    for released in (False, True):
        assert loss_of(OneToK(log_scale=SCALE, as_released=released), batch).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.family("F09")
def test_captions_of_a_picture_pull_while_they_are_less_likely_than_one_of_k() -> None:
    """The gradient on a picture's logit with one of its K captions is K p - 1, over rows and directions."""
    images, texts = torch.eye(3).repeat_interleave(2, dim=0), torch.zeros(6, 3, requires_grad=True)
    batch = Encoded({"image": images, "text": texts}, torch.tensor([0, 0, 1, 1, 2, 2]))
    module = OneToK(log_scale=0.0).build()
    module(batch).backward()
    # all logits are 0, so p = 1/6 in the direction from the picture, and 1/3 in the other; text 0, picture 0:
    from_picture = 2 * (1 / 6) - 1
    from_caption = 1 / 3 - 1
    assert texts.grad is not None
    assert float(texts.grad[0, 0]) == pytest.approx((from_picture + from_caption) / (2 * 6), abs=1e-6)
    assert float(texts.grad[0, 1]) == pytest.approx((2 * (1 / 6) + 1 / 3) / (2 * 6), abs=1e-6)


@pytest.mark.family("F22")
def test_weights_of_the_identity_are_one_direction_of_info_nce() -> None:
    logits = 3 * torch.randn(5, 5, generator=torch.Generator().manual_seed(3))
    soft = soft_cross_entropy(logits, torch.eye(5), torch.zeros(5, 5, dtype=torch.bool))
    torch.testing.assert_close(soft, F.cross_entropy(logits, torch.arange(5), reduction="none"))


@pytest.mark.family("F22")
def test_equal_captions_pull_each_other_softly_and_push_hard() -> None:
    """Two captions of one picture at equal logits: the soft target is content, the one-hot target is not."""
    logits = torch.zeros(2, 2, requires_grad=True)
    soft = soft_cross_entropy(logits, torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool)).sum()
    assert float(torch.autograd.grad(soft, logits)[0].abs().max()) == 0
    hard = F.cross_entropy(logits, torch.arange(2))
    assert float(torch.autograd.grad(hard, logits)[0].abs().min()) > 0


@pytest.mark.family("F22")
def test_list_mle_is_plackett_luce() -> None:
    scores = torch.tensor([[0.3, -1.0, 2.0, 0.5]])
    wanted = torch.tensor([[9.0, 1.0, 5.0, 3.0]])  # the order 0, 2, 3, 1
    left, chance = [0, 2, 3, 1], 1.0
    while left:
        chance *= math.exp(scores[0, left[0]]) / sum(math.exp(scores[0, k]) for k in left)
        left.pop(0)
    found = list_mle(scores, wanted, torch.ones(1, 4, dtype=torch.bool))
    assert found.item() == pytest.approx(-math.log(chance), abs=1e-6)


@pytest.mark.family("F22")
def test_the_ranking_weight_grows_from_nothing() -> None:
    batch, target = batch_of(6), RankConsistency(log_scale=SCALE)
    assert loss_of(target, batch, progress=0.0).item() == 0
    third, end = (loss_of(target, batch, progress=p).item() for p in (1 / 3, 1.0))
    assert 2 * third == pytest.approx(end)
    alone = [loss_of(RankConsistency(log_scale=SCALE, **{name: False}), batch).item() for name in ("cross", "in_modal")]
    assert sum(alone) == pytest.approx(end, rel=1e-5)


@pytest.mark.family("F22")
def test_siblings_are_in_no_list() -> None:
    """A caption's rank among those of its own picture says nothing: moving a sibling changes no other row's term."""
    batch = batch_of(5, group=[0, 0, 1, 2, 3])
    total = 0.0
    scale = math.exp(SCALE)
    image, text = (batch.vectors[name].double() for name in ("image", "text"))
    for first, second, third, fourth in ((image, text, text, image), (image, image, text, text)):
        one, other = scale * first @ second.T, scale * third @ fourth.T
        for scores, wanted in ((one, other), (other, one)):
            for row in range(5):
                listed = [c for c in range(5) if c == row or batch.group_B[c] != batch.group_B[row]]
                left = sorted(listed, key=lambda c: -float(wanted[row, c]))
                while left:
                    total += float(torch.logsumexp(scores[row, left], 0) - scores[row, left[0]])
                    left.pop(0)
    found = loss_of(RankConsistency(log_scale=SCALE), batch, progress=1.0)
    assert found.item() == pytest.approx(2 * total / 5 / 32, rel=1e-5)


def test_similarity_distribution_is_its_definition() -> None:
    group = [0, 1, 0, 2]
    batch = batch_of(4, group=group)
    z = (math.exp(SCALE) * batch.vectors["image"] @ batch.vectors["text"].T).double()
    total = 0.0
    for logits in (z, z.T):
        p = torch.softmax(logits, dim=1)
        for i in range(4):
            members = sum(g == group[i] for g in group)
            total += sum(
                float(p[i, j] * (torch.log(p[i, j]) - math.log((group[i] == group[j]) / members + 1e-8)))
                for j in range(4)
            )
    assert loss_of(SimilarityDistribution(log_scale=SCALE), batch).item() == pytest.approx(total / 4, rel=1e-5)


@pytest.mark.family("F06")
def test_a_teacher_that_is_sure_and_right_is_info_nce() -> None:
    eye = torch.eye(6)
    batch = batch_of(6, columns={"ti": eye, "tt": eye})
    sure = Distillation(log_scale=SCALE, teachers_a=("ti",), teachers_b=("tt",), teacher_scale=1000.0)
    assert loss_of(sure, batch).item() == pytest.approx(loss_of(InfoNCE(log_scale=SCALE), batch).item(), abs=1e-6)
    two = Distillation(log_scale=SCALE, teachers_a=("ti", "ti"), teachers_b=("tt", "tt"), teacher_scale=1000.0)
    assert loss_of(two, batch).item() == pytest.approx(loss_of(sure, batch).item())


@pytest.mark.family("F23")
def test_separation_is_cross_entropy_among_the_own_kind() -> None:
    batch = batch_of(5)
    text, image = batch.vectors["text"], batch.vectors["image"]
    expected = sum(F.cross_entropy(math.exp(SCALE) * x @ x.T, torch.arange(5)).item() for x in (text, image))
    assert loss_of(IntraModalSeparation(log_scale=SCALE), batch).item() == pytest.approx(expected, rel=1e-5)
    meaning = unit(5, 4, seed=9)
    batch.columns = {"meaning": meaning}
    logits = (text @ text.T) * (1 - meaning @ meaning.T)
    logits[range(5), range(5)] = (image * text).sum(dim=1)
    expected = F.cross_entropy(math.exp(SCALE) * logits, torch.arange(5)).item()
    target = IntraModalSeparation(log_scale=SCALE, meaning_from="meaning", separate=("text",))
    assert loss_of(target, batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.family("F23")
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_alignclip_is_twice_info_nce_and_the_separation(beta: float) -> None:
    """F23 (c): the released loss, both of its directions without a half; with beta = 0 it is 2 x InfoNCE."""
    batch = batch_of(6)
    image, text = batch.vectors["image"], batch.vectors["text"]
    scale, own = math.exp(SCALE), torch.arange(6)
    released = sum(F.cross_entropy(scale * z, own).item() for z in (image @ text.T, text @ image.T))
    released += beta * sum(F.cross_entropy(scale * x @ x.T, own).item() for x in (image, text))
    ours = 2 * loss_of(InfoNCE(log_scale=SCALE), batch).item()
    ours += beta * loss_of(IntraModalSeparation(log_scale=SCALE), batch).item()
    assert ours == pytest.approx(released, rel=1e-5)


@pytest.mark.family("F20")
def test_one_token_a_side_is_info_nce_and_padding_is_nothing() -> None:
    batch = batch_of(6)
    batch.tokens = {name: Tokens(vectors[:, None]) for name, vectors in batch.vectors.items()}
    expected = loss_of(InfoNCE(log_scale=SCALE), batch).item()
    assert loss_of(LateInteraction(log_scale=SCALE), batch).item() == pytest.approx(expected, abs=1e-6)
    for name, vectors in batch.vectors.items():
        huge = torch.full_like(vectors, 1e6)
        batch.tokens[name] = Tokens(torch.stack([vectors, huge], dim=1), torch.tensor([[True, False]] * 6))
    assert loss_of(LateInteraction(log_scale=SCALE), batch).item() == pytest.approx(expected, abs=1e-6)


def test_late_interaction_is_its_definition() -> None:
    image, text = unit(3, 4, 5, seed=1), unit(3, 2, 5, seed=2)
    batch = batch_of(3, dim=5)
    batch.tokens = {"image": Tokens(image), "text": Tokens(text)}
    there, back = torch.zeros(3, 3), torch.zeros(3, 3)
    for i in range(3):
        for j in range(3):
            dots = image[i] @ text[j].T
            there[i, j], back[j, i] = dots.max(dim=1).values.mean(), dots.max(dim=0).values.mean()
    scale = math.exp(SCALE)
    expected = sum(F.cross_entropy(scale * x, torch.arange(3)).item() for x in (there, back)) / 2
    assert loss_of(LateInteraction(log_scale=SCALE), batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.family("F19")
def test_an_empty_queue_is_nothing_and_one_of_the_other_keys_is_info_nce() -> None:
    batch = batch_of(6)
    batch.keys = dict(batch.vectors)
    module: Any = MomentumQueue(log_scale=SCALE, size=8, embed_dim=6).build()
    assert module(batch).item() == 0
    module.after_step()  # now the queue holds the batch; a row's own key there is of its group, so it is masked
    assert module(batch).item() == pytest.approx(loss_of(InfoNCE(log_scale=SCALE), batch).item(), abs=1e-6)
    module.after_step()
    assert module.queue_group.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    module.eval()
    before = module.queue_a.clone()
    module(batch)
    module.after_step()
    torch.testing.assert_close(module.queue_a, before)


@pytest.mark.family("F19")
def test_a_queue_longer_than_the_corpus_has_no_false_negatives() -> None:
    batch = batch_of(3)
    batch.keys = dict(batch.vectors)
    module: Any = MomentumQueue(log_scale=SCALE, size=100, embed_dim=6).build()
    for _ in range(20):
        module(batch)
        module.after_step()
    z = math.exp(SCALE) * batch.vectors["image"] @ batch.vectors["text"].T
    expected = 0.0
    for logits in (z, z.T):
        for r in range(3):  # each of the two others stands in the queue 20 times
            others = sum(20 * math.exp(logits[r, c]) for c in range(3) if c != r)
            expected -= math.log(math.exp(logits[r, r]) / (math.exp(logits[r, r]) + others))
    assert module(batch).item() == pytest.approx(expected / 6, rel=1e-5)


def test_matryoshka_is_the_sum_over_widths() -> None:
    batch = batch_of(6)
    expected = 0.0
    for dim, weight in ((2, 0.5), (6, 1.0)):
        cut = {name: F.normalize(vectors[:, :dim], dim=-1) for name, vectors in batch.vectors.items()}
        expected += weight * loss_of(InfoNCE(log_scale=SCALE), Encoded(cut, batch.group_B)).item()
    target = Matryoshka(target=InfoNCE(log_scale=SCALE), dims=(2, 6), weights=(0.5, 1.0))
    assert loss_of(target, batch).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"dims: 9 is wider than the vectors of image \(6\), text \(6\)"):
        loss_of(Matryoshka(target=InfoNCE(), dims=(9,)), batch)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RankConsistency(cross=False, in_modal=False), "both off"),
        (lambda: Distillation(teachers_a=("x",), teachers_b=("x", "y")), "1 columns in teachers_a, 2 in teachers_b"),
        (lambda: IntraModalSeparation(separate=("audio",)), "audio.*valid: image, text"),
        (lambda: Matryoshka(target=InfoNCE(), dims=(4, 4)), "different numbers"),
        (lambda: Matryoshka(target=InfoNCE(), dims=(4,), weights=(1.0, 2.0)), "2 weights for 1 dims"),
        (lambda: SigLIP(a="text", b="text"), "two streams"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
