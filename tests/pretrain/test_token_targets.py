"""Targets that read single tokens: CTC, shared tokens, transport; each against a dull reading of its formula."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pretrain.embeddings.base import Tokens
from pretrain.embeddings.byte_tokens import VOCABULARY, ByteTokens
from pretrain.targets.base import Encoded, hidden, ids
from pretrain.targets.ctc import CTC, CTCLoss, transcripts
from pretrain.targets.shared_tokens import SharedTokens, SharedTokensLoss, sparsemax
from pretrain.targets.transport import OptimalTransport, divergence, sinkhorn
from tests.pretrain.batches import SCALE, unit
from tests.pretrain.stream_batches import MODEL, loss_of


def brute_ctc(log_p: torch.Tensor, wanted: list[int], blank: int) -> float:
    """-log of the sum over all paths that collapse to `wanted`."""
    total = 0.0
    for path in itertools.product(range(log_p.shape[1]), repeat=log_p.shape[0]):
        collapsed = [v for t, v in enumerate(path) if v != blank and (t == 0 or path[t - 1] != v)]
        if collapsed == wanted:
            total += math.exp(sum(float(log_p[t, v]) for t, v in enumerate(path)))
    return -math.log(total)


@pytest.mark.family("F13")
def test_ctc_is_the_sum_over_all_alignments() -> None:
    """F13 (a): against enumeration of all 4^5 paths, with repetitions, padding and a row that is too long for it."""
    small = SimpleNamespace(size=4, pad=0, ordinary=lambda number: number > 0)
    module = CTCLoss(CTC(stream="audio", text="text"), 3, small)  # type: ignore[arg-type]
    torch.manual_seed(1)
    frames = torch.randn(4, 5, 3)
    mask = torch.arange(5)[None, :] < torch.tensor([5, 4, 5, 2])[:, None]
    number = torch.tensor([[1, 1, 2], [3, 0, 0], [2, 3, 2], [1, 2, 3]])  # the last has 3 tokens in 2 frames
    batch = Encoded({}, torch.arange(4), columns={ids("text"): number}, tokens={hidden("audio"): Tokens(frames, mask)})
    log_p = module.head(frames).log_softmax(-1).detach()
    expected = [
        brute_ctc(log_p[row, : int(mask[row].sum())], [v for v in number[row].tolist() if v], 0)
        / int((number[row] > 0).sum())
        for row in range(3)
    ]
    assert module(batch).item() == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_transcripts_and_the_best_path() -> None:
    number, length = transcripts(ByteTokens().prepare(["ab", ""])["ids_BL"], VOCABULARY)
    assert (number[0, :2].tolist(), length.tolist()) == ([98, 99], [2, 0])
    module = CTCLoss(CTC(), 260, VOCABULARY)
    with torch.no_grad():
        module.head.weight.copy_(torch.eye(260))
        module.head.bias.zero_()
    path = torch.tensor([[98, 98, 0, 98, 99, 99, 0, 5]])
    read = module.read(Tokens(F.one_hot(path, 260).float(), torch.tensor([[True] * 7 + [False]])))
    assert ByteTokens().texts(read) == ["aab"]


@pytest.mark.family("F20")
def test_sparsemax_is_the_nearest_point_of_the_simplex() -> None:
    """F20 (c): weights sum to 1, many are 0; against a search over which entries stay positive."""
    x = 2 * torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sparsemax(x)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(20, dtype=torch.float64))
    assert float((found == 0).double().mean()) > 0.4
    for row in range(20):
        best: tuple[float, Any] = (math.inf, None)
        for size in range(1, 7):
            for support in itertools.combinations(range(6), size):
                point = torch.zeros(6, dtype=torch.float64)
                point[list(support)] = x[row, list(support)] - (x[row, list(support)].sum() - 1) / size
                if bool((point >= 0).all()):
                    best = min(best, (float((point - x[row]).square().sum()), point), key=lambda each: each[0])
        torch.testing.assert_close(found[row], best[1])


@pytest.mark.family("F20")
def test_shared_tokens_ignore_padding() -> None:
    """F20 (b)."""
    torch.manual_seed(0)
    module = SharedTokens(num_tokens=9, log_scale=SCALE).build_for(MODEL)
    assert isinstance(module, SharedTokensLoss)
    x, mask = unit(4, 3, 6, seed=1), torch.tensor([[True, True, False]] * 4)
    huge = x.clone()
    huge[:, 2] = 1e6
    torch.testing.assert_close(module.weights(Tokens(huge, mask)), module.weights(Tokens(x[:, :2])))


@pytest.mark.family("F13")
@pytest.mark.family("F21")
def test_transport_has_its_marginals_and_is_zero_for_equal_sets() -> None:
    """F13 (d), F21 (c): marginals to 1e-3, symmetric, 0 for the same tokens, more for others; padding is nothing."""
    a = Tokens(unit(2, 4, 6, seed=1), torch.tensor([[True] * 4, [True, True, True, False]]))
    b = Tokens(unit(2, 3, 6, seed=2))
    mask_a, mask_b = a.mask_BL, torch.ones(2, 3, dtype=torch.bool)
    cost = (a.x_BLW[:, :, None] - b.x_BLW[:, None]).square().sum(-1)
    plan, _ = sinkhorn(cost, mask_a, mask_b, 0.1, 400)
    torch.testing.assert_close(plan.sum(dim=1), torch.full((2, 3), 1 / 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(plan.sum(dim=2), mask_a / mask_a.sum(dim=1, keepdim=True), atol=1e-3, rtol=0)
    there, back = divergence(a, b, 0.1, 100, 1.0), divergence(b, a, 0.1, 100, 1.0)
    torch.testing.assert_close(there, back, atol=1e-3, rtol=1e-3)
    assert float(there.min()) > 0.1
    assert float(divergence(a, a, 0.1, 100, 1.0).abs().max()) < 1e-5
    huge = Tokens(a.x_BLW.clone(), mask_a)
    huge.x_BLW[1, 3] = 50
    torch.testing.assert_close(divergence(huge, b, 0.1, 100, 1.0), there)
    batch = Encoded({}, torch.arange(2), tokens={"audio": a, "text": b})
    assert loss_of(OptimalTransport(iterations=100), batch) == pytest.approx(float(there.mean()), rel=1e-4)
