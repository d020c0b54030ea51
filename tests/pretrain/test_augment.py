"""pretrain/augment.py: every named change changes pixels, by the sample's own numbers only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretrain import augment as module
from pretrain.augment import augment, jitter
from pretrain.keyed import key


def pictures(num: int = 6) -> torch.Tensor:
    return torch.rand(num, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def samples(num: int = 6) -> np.ndarray:
    return np.array([key("sample", n) for n in range(num)], dtype=np.uint64)


def test_a_row_does_not_depend_on_its_batch() -> None:
    epochs = np.array([0, 0, 0, 1, 1, 1])
    whole = augment(pictures(), samples(), 3, epochs)
    part = augment(pictures()[2:4], samples()[2:4], 3, epochs[2:4])
    torch.testing.assert_close(part, whole[2:4], atol=1e-6, rtol=0)


def test_epoch_seed_and_sample_each_change_it() -> None:
    epochs = np.zeros(6, dtype=np.int64)
    first = augment(pictures(), samples(), 3, epochs)
    assert torch.equal(first, augment(pictures(), samples(), 3, epochs))
    for other in (augment(pictures(), samples(), 4, epochs), augment(pictures(), samples(), 3, epochs + 1)):
        assert float((first - other).abs().amax(dim=(1, 2, 3)).min()) > 0.01
    same_picture = pictures(1).expand(6, -1, -1, -1)
    varied = augment(same_picture, samples(), 3, epochs)
    assert float((varied[0] - varied[1]).abs().max()) > 0.01


@pytest.mark.parametrize("which", [0, 1, 2])
def test_each_colour_change_changes_pixels(which: int) -> None:
    factors = [torch.ones(6) for _ in range(3)]
    torch.testing.assert_close(jitter(pictures(), *factors), pictures(), atol=1e-6, rtol=0)
    factors[which] = torch.full((6,), 0.8)
    assert float((jitter(pictures(), *factors) - pictures()).abs().max()) > 0.01


def test_crop_moves_a_dot_and_never_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BRIGHTNESS", "CONTRAST", "SATURATION"):
        monkeypatch.setattr(module, name, 0.0)
    dotted = torch.ones(64, 3, 32, 32)
    dotted[:, :, 14:18, 4:8] = 0  # left of the middle
    moved = augment(dotted, np.arange(64, dtype=np.uint64) * np.uint64(977), 0, np.zeros(64, dtype=np.int64))
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    dark = 1 - moved.mean(dim=1)
    column = (dark.sum(dim=1) * torch.arange(32)).sum(dim=1) / dark.sum(dim=(1, 2))
    assert float(column.max()) < 16  # it never lands on the right
    assert float(column.std()) > 0.3
