"""Targets with heads, columns or several streams: each against a dull reading of its formula, and its identities."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pretrain.targets.base import Encoded
from pretrain.targets.binding import Binding
from pretrain.targets.graded import Graded
from pretrain.targets.harmonised import Harmonised, realign
from pretrain.targets.info_nce import InfoNCE
from pretrain.targets.late_interaction import LateInteraction
from pretrain.targets.prototypes import Prototypes, PrototypesLoss
from pretrain.targets.siglip import SigLIP
from pretrain.targets.softened import SoftenedInfoNCE, soft_rows
from pretrain.targets.tags import TagClassification
from pretrain.targets.topology import Topology
from tests.pretrain.batches import SCALE, unit
from tests.pretrain.stream_batches import MODEL, batch_of, loss_of


@pytest.mark.family("F07")
def test_the_asymmetric_loss_is_its_formula() -> None:
    applies = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0]])
    target = TagClassification(column="tags", num_tags=4)
    batch = batch_of(3, columns={"tags": applies}, present={"tags": torch.tensor([True, True, False])})
    torch.manual_seed(0)
    module: Any = target.build_for(MODEL)
    p = torch.sigmoid(module.head(batch.vectors["image"])).double().detach()
    total = 0.0
    for row, tag in itertools.product(range(2), range(4)):
        wrong = max(float(p[row, tag]) - 0.05, 0.0)  # ASL, equations 4 to 6
        total -= math.log(float(p[row, tag])) if applies[row, tag] else wrong**4 * math.log(1 - wrong)
    assert module(batch).item() == pytest.approx(total / 2, rel=1e-5)
    with pytest.raises(ValueError, match="num_tags is 3"):
        loss_of(TagClassification(column="tags", num_tags=3), batch)


@pytest.mark.family("F07")
def test_tags_are_learned() -> None:
    """F07 (c): mean average precision above 0.95 when 64 rows are overfitted."""
    applies = (torch.rand(64, 8, generator=torch.Generator().manual_seed(3)) < 0.3).float()
    x = torch.randn(64, 24, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(0)
    tower = torch.nn.Sequential(torch.nn.Linear(24, 64), torch.nn.GELU(), torch.nn.Linear(64, 6 * 8))
    model: Any = SimpleNamespace(embed_dim=48, trained_log_scale=lambda: None, parts=lambda: None)
    module: Any = TagClassification(column="tags", num_tags=8).build_for(model)
    optimizer = torch.optim.Adam([*tower.parameters(), *module.parameters()], lr=1e-2)
    for _ in range(120):
        batch = Encoded({"image": F.normalize(tower(x), dim=-1)}, torch.arange(64), columns={"tags": applies})
        optimizer.zero_grad()
        loss = module(batch)
        loss.backward()
        optimizer.step()
    scores = module.head(F.normalize(tower(x), dim=-1)).detach().numpy()
    assert np.mean([average_precision(scores[:, t], applies[:, t].numpy()) for t in range(8)]) > 0.95


def average_precision(scores: np.ndarray, applies: np.ndarray) -> float:
    right = applies[np.argsort(-scores, kind="stable")]
    return float((right * np.cumsum(right) / np.arange(1, len(right) + 1)).sum() / right.sum())


def prototypes(teacher_temperature: float = 0.0) -> tuple[PrototypesLoss, Encoded]:
    columns = {
        "ci": torch.tensor([0.0, 0, 1, 1, 3, 3]),
        "ct": torch.tensor([0.0, 1, 1, 0, 2, 2]),
        "ti": unit(6, 3, seed=8),
        "tt": unit(6, 3, seed=9),
    }
    extra: dict[str, Any] = {
        "teacher_a": "ti",
        "teacher_b": "tt",
        "teacher_width": 3,
        "teacher_temperature": teacher_temperature,
    }
    target = Prototypes(
        clusters_a="ci", clusters_b="ct", num_clusters=4, episode_steps=1, **(extra if teacher_temperature else {})
    )
    module = target.build_for(MODEL)
    assert isinstance(module, PrototypesLoss)
    return module, batch_of(6, columns=columns)


@pytest.mark.family("F21")
def test_prototypes_are_means_in_the_other_sides_clusters() -> None:
    """F21 (a) and (b): hard targets are cross-entropy on centroid logits; empty clusters are left out."""
    module, batch = prototypes()
    assert module(batch).item() == 0  # no episode has ended yet
    module.after_step()
    total, image, text = 0.0, batch.vectors["image"], batch.vectors["text"]
    for vectors, labels in ((image, batch.columns["ct"].long()), (text, batch.columns["ci"].long())):
        there = sorted(set(labels.tolist()))
        means = torch.stack([vectors[labels == k].mean(dim=0) for k in there])
        logits = vectors @ means.T / 0.07
        total += F.cross_entropy(logits, torch.tensor([there.index(k) for k in labels.tolist()])).item() / 2
    assert module(batch).item() == pytest.approx(total, rel=1e-4)
    assert module.get_buffer("is_there_a").tolist() == [True, True, False, True]
    batch.columns["ct"] = torch.full((6,), 3.0)  # a cluster that nobody was of
    assert module(batch).item() == 0
    batch.columns["ct"] = torch.full((6,), 4.0)
    with pytest.raises(ValueError, match="holds cluster 4, num_clusters is 4"):
        module(batch)


def test_soft_prototypes_use_the_teachers() -> None:
    module, batch = prototypes(teacher_temperature=0.5)
    module(batch)
    module.after_step()
    hard, _ = prototypes()
    hard(batch)
    hard.after_step()
    assert module(batch).item() != pytest.approx(hard(batch).item(), rel=1e-3)
    module.config = module.config.model_copy(update={"teacher_temperature": 1e-4})
    assert module(batch).item() == pytest.approx(hard(batch).item(), rel=1e-4)


@pytest.mark.family("F28")
def test_topology_is_zero_for_the_same_model_and_kl_else() -> None:
    """F28 (c)."""
    batch = batch_of(5)
    batch.columns = {"oi": batch.vectors["image"].clone(), "ot": batch.vectors["text"].clone()}
    target = Topology(older_a="oi", older_b="ot", temperature=0.5)
    assert loss_of(target, batch) == pytest.approx(0, abs=1e-6)
    older = {"oi": unit(5, 6, seed=7), "ot": unit(5, 6, seed=8)}
    batch.columns = older
    total = 0.0
    for a, b in itertools.product(("image", "text"), repeat=2):
        old = {"image": older["oi"], "text": older["ot"]}
        for row in range(5):
            others = [c for c in range(5) if a != b or c != row]
            p = torch.stack([old[a][row] @ old[b][c] / 0.5 for c in others]).softmax(0)
            q = torch.stack([batch.vectors[a][row] @ batch.vectors[b][c] / 0.5 for c in others]).softmax(0)
            total += float((p * (p / q).log()).sum()) / 2
    assert loss_of(target, batch) == pytest.approx(total / 5, rel=1e-4)


@pytest.mark.family("F28")
def test_topology_of_rows_with_nobody_else_is_zero() -> None:
    """Siblings and rows that do not count are nobody's neighbours, not even where there are no others."""
    module = Topology(older_a="oi", older_b="ot").build()
    for groups, has_text in (([3, 3, 3], [True] * 3), ([0, 1, 2], [True, False, False])):
        batch = batch_of(3, present={"text": torch.tensor(has_text)})
        batch.group_B = torch.tensor(groups)
        batch.columns = {"oi": unit(3, 6, seed=7), "ot": unit(3, 6, seed=8)}
        for vector in batch.vectors.values():
            vector.requires_grad_()
        loss = module(batch)
        loss.backward()
        assert loss.item() == 0
        assert all(not vector.grad.any() for vector in batch.vectors.values() if vector.grad is not None)


@pytest.mark.family("F11")
def test_one_group_of_one_stream_is_info_nce() -> None:
    """F11 (c), and (b): rows without a stream count out of the groups that need it."""
    batch = batch_of(6, ("video", "text", "audio"))
    plain = loss_of(InfoNCE(a="video", b="text", log_scale=SCALE), batch)
    assert loss_of(Binding(groups=(("video",),), log_scale=SCALE), batch) == pytest.approx(plain, rel=1e-6)
    both = Binding(groups=(("video",), ("audio",), ("video", "audio")), log_scale=SCALE)
    together = F.normalize(batch.vectors["video"] + batch.vectors["audio"], dim=-1)
    joint = Encoded({"av": together, "text": batch.vectors["text"]}, batch.group_B)
    parts = [
        plain,
        loss_of(InfoNCE(a="audio", b="text", log_scale=SCALE), batch),
        loss_of(InfoNCE(a="av", b="text", log_scale=SCALE), joint),
    ]
    assert loss_of(both, batch) == pytest.approx(sum(parts) / 3, rel=1e-5)
    batch.present = {"audio": torch.tensor([True, False, True, True, False, True])}
    keep = batch.present["audio"]
    some = Encoded({name: vectors[keep] for name, vectors in batch.vectors.items()}, batch.group_B[keep])
    audio = Binding(groups=(("audio",),), log_scale=SCALE)
    assert loss_of(audio, batch) == pytest.approx(loss_of(audio, some), rel=1e-5)
    with pytest.raises(ValueError, match="other than the anchor"):
        Binding(groups=(("text", "audio"),))


@pytest.mark.family("F03")
def test_rows_weigh_what_their_column_says() -> None:
    level = torch.tensor([0.0, 1, 2, 0, 1])
    batch = batch_of(5, columns={"level": level, "weight": torch.tensor([0.0, 1, 2, 0, 1])})
    image, text = batch.vectors["image"], batch.vectors["text"]
    z = math.exp(SCALE) * image @ text.T
    losses = (
        F.cross_entropy(z, torch.arange(5), reduction="none") + F.cross_entropy(z.T, torch.arange(5), reduction="none")
    ) / 2
    weights = torch.tensor([0.5, 1, 4])[level.long()]
    target = Graded(target=InfoNCE(log_scale=SCALE), column="level", weights=(0.5, 1.0, 4.0))
    assert loss_of(target, batch) == pytest.approx(float((weights * losses).sum() / weights.sum()), rel=1e-5)
    by_itself = Graded(target=InfoNCE(log_scale=SCALE), column="weight")
    assert loss_of(by_itself, batch) == pytest.approx(float((level * losses).sum() / level.sum()), rel=1e-5)
    batch.columns["level"] = level + 1
    with pytest.raises(ValueError, match="holds levels 1 to 3; there are weights for 0 to 2"):
        loss_of(target, batch)
    batch.columns["weight"] = level - 1
    with pytest.raises(ValueError, match="used as a weight and holds -1"):
        loss_of(by_itself, batch)


@pytest.mark.family("F03")
def test_a_curriculum_admits_rows_as_training_goes_on() -> None:
    batch = batch_of(6, columns={"score": torch.tensor([0.9, 0.1, 0.6, 0.4, 0.8, 0.2])})
    batch.present = {"score": torch.tensor([True] * 5 + [False])}
    target = Graded(target=InfoNCE(log_scale=SCALE), column="score", weighted=False, admit_from=0.7, admit_to=0.3)
    for done, admitted in ((0.0, [0, 4]), (0.5, [0, 2, 4]), (1.0, [0, 2, 3, 4])):
        some = Encoded({name: v[admitted] for name, v in batch.vectors.items()}, batch.group_B[admitted])
        assert loss_of(target, batch, done) == pytest.approx(loss_of(InfoNCE(log_scale=SCALE), some), rel=1e-5)
    with pytest.raises(ValueError, match="both admit_from and admit_to"):
        Graded(target=InfoNCE(), column="score", admit_from=0.7)


@pytest.mark.family("F03")
def test_realigned_gradients_do_not_conflict() -> None:
    """F03 (d), for 200 random pairs; those that agree are left alone."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        first, second = torch.randn(2, 3, 4, generator=generator)
        a, b = realign(first, second)
        if float((first * second).sum()) >= 0:
            assert a is first
            assert b is second
            continue
        assert float((a * b).sum()) >= 0
        assert float((a * second).sum()) == pytest.approx(0, abs=1e-5)
        assert float((b * first).sum()) == pytest.approx(0, abs=1e-5)


def test_harmonised_adds_losses_and_realigns_gradients() -> None:
    one, other = InfoNCE(log_scale=SCALE), SigLIP(log_scale=SCALE, bias=8.0)
    batch = batch_of(5)
    assert loss_of(Harmonised(targets=(one, other)), batch) == pytest.approx(
        loss_of(one, batch) + loss_of(other, batch)
    )
    gradients = []
    for target in (one, other, Harmonised(targets=(one, other))):
        leaf = batch.vectors["image"].clone().requires_grad_()
        target.build_for(MODEL)(Encoded({"image": leaf, "text": batch.vectors["text"]}, batch.group_B)).backward()
        gradients.append(leaf.grad)
    first, second = realign(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[2], first + second)
    with pytest.raises(ValueError, match="vectors only; LateInteraction"):
        Harmonised(targets=(one, LateInteraction()))


@pytest.mark.family("F22")
def test_softened_targets_sum_to_one_and_grow_from_one_hot() -> None:
    """F22 (c), (e)."""
    ignored = torch.tensor(
        [[False, True, False, False], [True, False, False, False], [False] * 4, [True, True, True, False]]
    )
    soft = soft_rows(ignored, torch.arange(4), 0.3)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(soft[0], torch.tensor([0.7, 0, 0.15, 0.15]))
    assert float(soft[3, 3]) == 1  # nobody to share with
    batch, target = batch_of(5), SoftenedInfoNCE(log_scale=SCALE, alpha=0.3)
    assert loss_of(target, batch, done=0.0) == pytest.approx(loss_of(InfoNCE(log_scale=SCALE), batch), rel=1e-6)
    z = math.exp(SCALE) * batch.vectors["image"] @ batch.vectors["text"].T
    expected = sum(F.cross_entropy(x, 0.7 * torch.eye(5) + 0.3 / 4 * (1 - torch.eye(5))).item() for x in (z, z.T)) / 2
    assert loss_of(target, batch) == pytest.approx(expected, rel=1e-5)
