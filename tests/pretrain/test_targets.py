"""pretrain/targets: each target against a dull reading of its formula, its identities, and exactness over processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from assembled import FUSIONS, WRITING, assembled, objective_of
from assembled import batch_of as assembled_batch
from batches import SCALE
from torch.utils._python_dispatch import TorchDispatchMode
from workers import TwoTowers, encoded_batch, losses_and_gradients, spawn

from pretrain.config import TrainConfig
from pretrain.targets.base import Target
from pretrain.targets.binding import Binding
from pretrain.targets.distillation import Distillation
from pretrain.targets.graded import Graded
from pretrain.targets.harmonised import Harmonised
from pretrain.targets.info_nce import InfoNCE
from pretrain.targets.late_interaction import LateInteraction
from pretrain.targets.matryoshka import Matryoshka
from pretrain.targets.old_space import OldSpace
from pretrain.targets.one_to_k import OneToK
from pretrain.targets.prototypes import Prototypes
from pretrain.targets.queue import MomentumQueue
from pretrain.targets.rank import RankConsistency
from pretrain.targets.separation import IntraModalSeparation
from pretrain.targets.shared_tokens import SharedTokens
from pretrain.targets.siglip import SigLIP
from pretrain.targets.soft import ContinuouslyWeighted, SimilarityDistribution
from pretrain.targets.softened import SoftenedInfoNCE
from pretrain.targets.topology import Topology
from pretrain.targets.transport import OptimalTransport

ALL: list[Target] = [
    InfoNCE(log_scale=SCALE),
    InfoNCE(log_scale=SCALE, chunk_rows=2),
    SigLIP(log_scale=SCALE, bias=-3.0),
    SigLIP(log_scale=SCALE, bias=-3.0, chunk_rows=5),
    OneToK(log_scale=SCALE),
    OneToK(log_scale=SCALE, as_released=True, chunk_rows=2),
    ContinuouslyWeighted(log_scale=SCALE, weights_from="teacher_text"),
    ContinuouslyWeighted(log_scale=SCALE, chunk_rows=2),
    SimilarityDistribution(log_scale=SCALE, chunk_rows=2),
    RankConsistency(log_scale=SCALE, chunk_rows=2),
    IntraModalSeparation(log_scale=SCALE),
    IntraModalSeparation(log_scale=SCALE, meaning_from="teacher_text", separate=("text",), chunk_rows=2),
    Distillation(log_scale=SCALE, teachers_a=("teacher_image",), teachers_b=("teacher_text",), teacher_scale=5.0),
    Matryoshka(target=SigLIP(log_scale=SCALE), dims=(2, 5), weights=(0.5, 2.0)),
    LateInteraction(log_scale=SCALE, chunk_rows=2),
    MomentumQueue(log_scale=SCALE, size=16, embed_dim=5),
    SoftenedInfoNCE(log_scale=SCALE, alpha=0.3, chunk_rows=2),
    Topology(older_a="teacher_image", older_b="teacher_text", chunk_rows=2),
    Binding(groups=(("image",),), log_scale=SCALE),
    OptimalTransport(a="image", b="text", iterations=8),
    SharedTokens(num_tokens=7, log_scale=SCALE),
    Prototypes(clusters_a="cluster_image", clusters_b="cluster_text", num_clusters=4),
    Graded(target=SigLIP(log_scale=SCALE), column="score", admit_from=0.5, admit_to=0.2),
    Graded(target=InfoNCE(log_scale=SCALE), column="level", weights=(0.5, 1.0, 2.0)),
    OldSpace(older_dim=3, other="image", log_scale=SCALE, chunk_rows=2),
    Harmonised(targets=(InfoNCE(log_scale=SCALE), SigLIP(log_scale=SCALE, bias=-3.0))),
]
ASSEMBLED = [
    [{"use": "matching.ImageTextMatching"}, {"use": "masked_multimodal.MaskedMultimodal", "text_rate": 0.3}],
    [{"use": "masked_language.MaskedLanguage", "rate": 0.3}, {"use": "masked_image.MaskedImage", "rate": 0.5}],
    [{"use": "captioning.Captioning"}, {"use": "info_nce.InfoNCE"}],
]
"""Targets that need more of a model than its vectors."""
NAMES = [f"{i}-{type(target).__name__}" for i, target in enumerate(ALL)]


@pytest.fixture(scope="module")
def on_two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """Of each target, and of both batches, the loss and the gradients that two processes find together."""
    folder = tmp_path_factory.mktemp("two")
    spawn(
        losses_and_gradients,
        folder,
        2,
        str(folder / "found.pt"),
        ALL,
        [specs.model_dump(mode="json") for specs in _assembled()],
    )
    found: list[dict[str, torch.Tensor]] = torch.load(folder / "found.pt", weights_only=True)
    return found


@pytest.mark.family("F19")
@pytest.mark.parametrize("lacks", [False, True])
@pytest.mark.parametrize("index", range(len(ALL)), ids=NAMES)
def test_two_processes_equal_one(index: int, lacks: bool, on_two_processes: list[dict[str, torch.Tensor]]) -> None:
    """Also where one of them has more rows that count than the other."""
    whole = TwoTowers(ALL[index])
    loss = whole(encoded_batch(lacks))
    loss.backward()
    found = on_two_processes[2 * index + lacks]
    assert float(found["loss"]) == pytest.approx(loss.item(), abs=1e-6, rel=1e-6)
    assert loss.item() != 0
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-5)


def _assembled() -> list[TrainConfig]:
    return [assembled(targets, fusion=FUSIONS["single_stream"], **WRITING) for targets in ASSEMBLED]


@pytest.mark.family("F19")
@pytest.mark.parametrize("index", range(len(ASSEMBLED)))
def test_two_processes_equal_one_with_fusion_and_decoder(
    index: int, on_two_processes: list[dict[str, torch.Tensor]]
) -> None:
    """The same negatives, the same masks, the same means: nothing depends on who holds which row."""
    objective = objective_of(_assembled()[index])
    objective.set_progress(0.25)
    loss = objective(assembled_batch(objective))["loss"]
    loss.backward()
    found = on_two_processes[2 * len(ALL) + index]
    assert float(found["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in objective.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("target", ALL, ids=NAMES)
def test_rows_that_lack_something_do_not_count(target: Target) -> None:
    """The loss of a batch with absent rows is that of the batch without them; nothing but absent rows gives 0."""
    whole = TwoTowers(target)
    full = whole.encode(encoded_batch())
    keep = torch.tensor([True, True, False, True, True, False, True, True, True, False, True, True])
    full.present = {"text": keep}
    some = whole.loss(full)
    without = whole.encode(encoded_batch(), keep)
    assert whole.loss(without).item() == pytest.approx(some.item(), abs=1e-5)
    full.present = {"text": torch.zeros_like(keep)}
    nothing = whole.loss(full)
    nothing.backward()
    assert nothing.item() == 0
    assert all(bool(torch.isfinite(p.grad).all()) for p in whole.parameters() if p.grad is not None)


@pytest.mark.family("F19")
@pytest.mark.parametrize("name", ["InfoNCE", "SigLIP", "OneToK", "ContinuouslyWeighted", "SimilarityDistribution"])
def test_chunks_change_neither_loss_nor_gradient(name: str) -> None:
    kind = next(type(target) for target in ALL if type(target).__name__ == name)
    found = []
    for chunk_rows in (None, 1, 5, 12):
        whole = TwoTowers(kind(log_scale=SCALE, chunk_rows=chunk_rows))  # type: ignore[call-arg]
        loss = whole(encoded_batch())
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in whole.parameters())])
    for other in found[1:]:
        for mine, first in zip(other, found[0], strict=True):
            torch.testing.assert_close(mine, first, atol=1e-6, rtol=1e-5)


@pytest.mark.family("F19")
@pytest.mark.parametrize("index", range(len(ALL)), ids=NAMES)
def test_the_logits_of_a_large_batch_never_exist_at_once(index: int) -> None:
    """Peak memory, counted exactly: of all tensors that are made, forwards and backwards, the largest is far less."""
    target, rows = ALL[index], 160
    if not hasattr(target, "chunk_rows"):
        pytest.skip("takes no pairs of rows")
    raw = {name: value.repeat_interleave(14, dim=0)[:rows] for name, value in encoded_batch().items()}
    raw["group"] = torch.arange(rows) // 2
    largest = {}
    for chunk_rows in (4, rows):
        queue = {"size": 200} if isinstance(target, MomentumQueue) else {}
        whole = TwoTowers(target.model_copy(update={"chunk_rows": chunk_rows, **queue}))
        with Largest() as seen:
            whole(raw).backward()
        largest[chunk_rows] = seen.numel
    assert largest[rows] >= rows * rows
    assert largest[4] < largest[rows] / 4


class Largest(TorchDispatchMode):
    """Notes the most elements of any tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, torch.Tensor):
                self.numel = max(self.numel, each.numel())
        return made
