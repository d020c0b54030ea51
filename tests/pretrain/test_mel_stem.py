"""The convolutional stem over log-mel frames: padding and loudness change nothing, and it tells words apart."""

from __future__ import annotations

import numpy as np
import torch

from pretrain.embeddings.mel_stem import MelStem
from pretrain.encoders.transformer import FeedForward

RATE = 16_000


def word(*pitches_hz: float) -> np.ndarray:
    times = np.arange(RATE // 8) / RATE
    return np.concatenate([0.3 * np.sin(2 * np.pi * hz * times) for hz in pitches_hz]).astype(np.float32)


def test_padding_and_a_constant_gain_change_nothing() -> None:
    torch.manual_seed(0)
    config = MelStem(width=16, stages=3, max_seconds=4)
    module = config.build(64).eval()
    short, long = word(300, 900), word(500, 700, 1100, 2000)
    alone = module(**config.prepare([short]))
    padded = module(**config.prepare([short, long]))
    assert alone.mask_BL is not None
    assert padded.mask_BL is not None
    number = int(alone.mask_BL.sum())
    assert number == int(padded.mask_BL[0].sum())
    torch.testing.assert_close(alone.x_BLW[0, :number], padded.x_BLW[0, :number], atol=1e-5, rtol=1e-5)
    assert not padded.x_BLW[0, number:].any()
    assert padded.x_BLW.shape[1] <= (config.max_frames() >> 3) + 1
    softer = module(**config.prepare([0.5 * short]))
    torch.testing.assert_close(alone.x_BLW, softer.x_BLW, atol=1e-4, rtol=1e-4)


def test_a_bag_of_its_tokens_tells_words_of_other_sounds_apart() -> None:
    torch.manual_seed(0)
    config = MelStem(width=16, stages=3, max_seconds=2)
    words = [word(300, 900, 600), word(500, 1500, 2500), word(700, 400, 3000)]
    stem, head = config.build(64), FeedForward().build(16)
    last = torch.nn.Linear(16, 3)
    optimizer = torch.optim.Adam([*stem.parameters(), *head.parameters(), *last.parameters()], lr=0.03)
    inputs, labels = config.prepare(words), torch.arange(3)
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(last(head(stem(**inputs))), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noisy = [each + np.random.default_rng(0).normal(0, 0.001, len(each)).astype(np.float32) for each in words]
    assert last(head(stem(**config.prepare(noisy)))).argmax(dim=1).tolist() == [0, 1, 2]
