"""pretrain/targets/info_nce.py: the loss against a dull double loop, and exactness across processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pretrain.targets.base import Encoded
from pretrain.targets.info_nce import InfoNCE, InfoNCELoss
from pretrain.targets.pairs import INITIAL_LOG_SCALE, MAX_LOG_SCALE
from tests.pretrain.batches import unit


def dull(a: np.ndarray, b: np.ndarray, group: list[int], scale: float) -> float:
    """InfoNCE by the definition: for each row, its own logit against those of other groups."""
    total = 0.0
    for left, right in ((a, b), (b, a)):
        for r in range(len(group)):
            own = math.exp(scale * float(left[r] @ right[r]))
            others = [
                math.exp(scale * float(left[r] @ right[c]))
                for c in range(len(group))
                if c != r and group[c] != group[r]
            ]
            total -= math.log(own / (own + sum(others)))
    return total / (2 * len(group))


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 1, 2, 0], [3, 3, 3, 3, 3, 3, 3]])
def test_equals_the_double_loop(group: list[int]) -> None:
    a, b = unit(7, 8, seed=1), unit(7, 8, seed=2)
    loss = InfoNCELoss("image", "text", 1.7)(Encoded({"image": a, "text": b}, torch.tensor(group)))
    expected = dull(a.numpy().astype(np.float64), b.numpy().astype(np.float64), group, math.exp(1.7))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_without_siblings_it_is_cross_entropy() -> None:
    a, b = unit(9, 4, seed=3), unit(9, 4, seed=4)
    logits = math.exp(2.0) * a @ b.T
    expected = (F.cross_entropy(logits, torch.arange(9)) + F.cross_entropy(logits.T, torch.arange(9))) / 2
    loss = InfoNCELoss("image", "text", 2.0)(Encoded({"image": a, "text": b}, torch.arange(9)))
    torch.testing.assert_close(loss, expected)


def test_siblings_get_no_gradient_as_negatives() -> None:
    a, b = unit(4, 3, seed=5).requires_grad_(), unit(4, 3, seed=6).requires_grad_()
    only_row_0 = InfoNCELoss("image", "text", 0.0)(Encoded({"image": a, "text": b}, torch.tensor([0, 0, 0, 0])))
    only_row_0.backward()
    assert a.grad is not None
    assert float(a.grad.abs().max()) == 0.0  # nothing but siblings: nothing to tell apart, and no NaN


@pytest.mark.family("F19")
def test_scale_starts_where_it_should_and_stays_in_range() -> None:
    module = InfoNCE().build()
    assert isinstance(module, InfoNCELoss)
    assert module.log_scale.item() == pytest.approx(math.log(1 / 0.07)) == pytest.approx(INITIAL_LOG_SCALE)
    for value, clamped in ((9.0, MAX_LOG_SCALE), (-3.0, 0.0), (1.5, 1.5)):
        with torch.no_grad():
            module.log_scale.fill_(value)
        module.after_step()
        assert module.log_scale.item() == pytest.approx(clamped)
    trained = InfoNCE().build(trained_log_scale=4.2)
    assert isinstance(trained, InfoNCELoss)
    assert trained.log_scale.item() == pytest.approx(4.2)
