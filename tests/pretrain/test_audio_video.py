"""Audio and video streams: log-mel against a dull transform, padding, tubelets, frames and their order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from assembled import objective_of, overfit

from pretrain.config import parse_config
from pretrain.embeddings.audio import LogMel, mel_filters
from pretrain.embeddings.base import Tokens
from pretrain.embeddings.byte_tokens import ByteTokens
from pretrain.embeddings.pictures import ConvStem, Patches, Pixels
from pretrain.embeddings.positions import position_module, sinusoids
from pretrain.embeddings.video import EachFrame, Tubelets
from pretrain.encoders.frames import FrameEncoder
from pretrain.encoders.transformer import FeedForward, Transformer
from pretrain.inputs import model_inputs
from pretrain.model import Model, StreamConfig, Streams
from pretrain.objective import Batch
from pretrain.targets.base import Encoded, hidden
from pretrain.targets.info_nce import InfoNCE

RATE = 16_000


def tone(hz: float, seconds: float = 0.2) -> np.ndarray:
    return (0.3 * np.sin(2 * math.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def model_of(embed_dim: int = 8, image_size: int = 16, **streams: tuple[Any, Any]) -> Model:
    torch.manual_seed(0)
    made = {name: StreamConfig(embedding=pair[0], encoder=pair[1]) for name, pair in streams.items()}
    return Streams(embed_dim=embed_dim, streams=made).build(image_size)


@pytest.mark.family("F13")
def test_log_mel_is_a_dull_transform() -> None:
    """F13 (e): the same numbers from a plain discrete Fourier transform of each window, and the same again."""
    sound = tone(440) + 0.1 * np.random.default_rng(0).normal(size=3200).astype(np.float32)
    embedding = LogMel()
    found = embedding.log_mel(torch.from_numpy(sound)).numpy()
    padded = np.pad(sound.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(400) / 400)
    filters = mel_filters(RATE, 400, 80).astype(np.float64)
    wave = np.exp(-2j * math.pi * np.outer(np.arange(201), np.arange(400)) / 400)
    rows = []
    for start in range(0, len(sound), 160):
        power = np.abs(wave @ (padded[start : start + 400] * window)) ** 2
        rows.append(np.log10(np.maximum(filters @ power, 1e-10)))
    expected = np.stack(rows)
    expected = (np.maximum(expected, expected.max() - 8) + 4) / 4
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_array_equal(embedding.log_mel(torch.from_numpy(sound)).numpy(), found)
    assert len(embedding.log_mel(torch.zeros(3))) == 1
    with pytest.raises(ValueError, match="not finite"):
        embedding.log_mel(torch.tensor([float("nan")] * 500))


def test_mel_bands_are_slaneys() -> None:
    """Against the published numbers of librosa.mel_frequencies(n_mels=40): edges even below 1 kHz, then logarithmic."""
    filters = mel_filters(RATE, 400, 80)
    peaks = filters.argmax(axis=1) * RATE / 400
    assert filters.shape == (80, 201)
    assert bool((np.diff(peaks) >= 0).all())
    for hz in (500, 1500, 4000):
        loudest = LogMel().log_mel(torch.from_numpy(tone(hz))).mean(dim=0).argmax()
        assert abs(peaks[int(loudest)] - hz) < 0.06 * hz + 40
    widths = (filters > 0).sum(axis=1)
    assert widths[-1] > 3 * widths[:20].max()


@pytest.mark.parametrize("encoder", [Transformer(layers=1, heads=2), FeedForward()])
def test_a_sound_does_not_depend_on_its_batch(encoder: Any) -> None:
    model = model_of(audio=(LogMel(width=16, num_mels=20, max_seconds=0.5), encoder)).eval()
    sounds = [tone(300, 0.11), tone(700, 0.4), tone(500, 0.9)]
    together = model.encode("audio", model.prepare("audio", sounds))
    alone = torch.cat([model.encode("audio", model.prepare("audio", [each])) for each in sounds])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    cut = model.encode("audio", model.prepare("audio", [sounds[2][: RATE // 2]]))
    torch.testing.assert_close(cut, alone[2:], atol=1e-5, rtol=1e-4)


@pytest.mark.family("F11")
def test_sounds_are_told_apart_by_what_they_go_with() -> None:
    """F11 (e) in small: 16 tones against 16 pictures, R@1 of at least 0.9 after overfitting."""
    streams: Any = {
        "audio": (LogMel(width=32, num_mels=40, max_seconds=0.3), Transformer(layers=1, heads=2)),
        "image": (ConvStem(width=32, stages=2), FeedForward()),
    }
    model = model_of(16, **streams)
    sounds = model.prepare("audio", [tone(200 * 1.2**k, 0.15) for k in range(16)])
    pictures = model.prepare("image", torch.rand(16, 3, 16, 16))
    loss: Any = InfoNCE(a="audio", b="image").build()
    optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=3e-3)
    for _ in range(60):
        vectors = {"audio": model.encode("audio", sounds), "image": model.encode("image", pictures)}
        optimizer.zero_grad()
        loss(Encoded(vectors, torch.arange(16))).backward()
        optimizer.step()
    with torch.no_grad():
        best = (model.encode("audio", sounds) @ model.encode("image", pictures).T).argmax(dim=1)
    assert float((best == torch.arange(16)).float().mean()) >= 0.9


@pytest.mark.family("F13")
def test_speech_is_transcribed_after_overfitting() -> None:
    """F13 (b) in small: 8 utterances of two to four tones, each tone a letter, to a character error rate of 0."""
    words = ["ab", "ba", "cab", "bac", "dad", "abcd", "dc", "bcb"]
    spec = {
        "name": "speech", "steps": 300, "batch_size": 8,
        "model": {
            "embed_dim": 8,
            "streams": {
                "audio": {
                    "embedding": {"use": "pretrain.embeddings.audio.LogMel", "width": 32, "num_mels": 40},
                    "encoder": {"use": "pretrain.encoders.transformer.Transformer", "layers": 1, "heads": 2},
                },
                "text": {
                    "embedding": {"use": "pretrain.embeddings.byte_tokens.ByteTokens", "width": 8, "max_tokens": 8},
                    "encoder": {"use": "pretrain.encoders.transformer.Transformer", "layers": 0},
                },
            },
        },
        "targets": [{"use": "pretrain.targets.ctc.CTC"}],
    }  # fmt: skip
    objective = objective_of(parse_config(spec))
    assert not any(p.requires_grad for n, p in objective.named_parameters() if n.startswith("model.streams.text"))
    sounds = [np.concatenate([tone(300 * 2 ** ("abcd".index(c) / 1.5), 0.12) for c in word]) for word in words]
    raw = {"audio": sounds, "text": words}
    batch = Batch(model_inputs(objective.model, raw), {}, torch.arange(8))
    overfit(objective, batch, 300, lr=2e-3)
    encoded = objective.encode(batch)
    module: Any = objective.targets["0_CTC"]
    assert ByteTokens().texts(module.read(encoded.tokens[hidden("audio")])) == words


def test_tubelets_are_boxes_of_pixels() -> None:
    torch.manual_seed(0)
    embedding = Tubelets(width=12, patch_size=4, frames=2, num_frames=4)
    module: Any = embedding.build(8)
    video = torch.rand(2, 4, 3, 8, 8)
    tokens = module(**embedding.prepare(video)).x_BLW - module.position
    assert tokens.shape == (2, embedding.num_tokens_of(8), 12)
    box = module.normalise(video[1, 2:4]).transpose(0, 1)[
        :, :, 4:8, 0:4
    ]  # second pair of frames, left of the lower row
    torch.testing.assert_close(
        tokens[1, 4 + 2], (module.projection.weight * box).sum(dim=(1, 2, 3, 4)), atol=1e-5, rtol=1e-4
    )
    with pytest.raises(ValueError, match="positions for 8: check num_frames"):
        module(torch.rand(1, 2, 3, 8, 8))
    with pytest.raises(ValueError, match="num_frames 5 must be a multiple of frames 2"):
        Tubelets(num_frames=5).build(16)


def pans() -> torch.Tensor:
    """(16, 4, 3, 16, 16): eight scenes with a bar that goes right, then the same frames backwards."""
    generator = torch.Generator().manual_seed(2)
    clips = torch.zeros(8, 4, 3, 16, 16)
    for scene in range(8):
        colour = torch.rand(3, generator=generator)
        for t in range(4):
            clips[scene, t, :, :, 4 * t : 4 * t + 4] = colour[:, None, None]
    return torch.cat([clips, clips.flip(1)])


@pytest.mark.family("F12")
def test_the_mean_of_frames_cannot_know_their_order() -> None:
    """F12 (a): both directions of a pan have the same vector."""
    model = model_of(
        video=(EachFrame(frame=ConvStem(width=16, stages=2)), FrameEncoder(frame=FeedForward(pool="flatten")))
    ).eval()
    vectors = model.encode("video", model.prepare("video", pans()))
    torch.testing.assert_close(vectors[:8], vectors[8:])


@pytest.mark.family("F12")
def test_the_temporal_encoder_learns_the_direction_and_needs_the_order() -> None:
    """F12 (b): above 90% when overfitted; (c): with shuffled frames at chance (HiTeA's shuffling test)."""
    encoder = FrameEncoder(frame=FeedForward(pool="flatten"), layers=1, heads=2)
    model = model_of(2, video=(EachFrame(frame=ConvStem(width=16, stages=2)), encoder))
    clips, goes_left = pans(), torch.arange(16) // 8
    inputs = model.prepare("video", clips)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(8 * model.encode("video", inputs), goes_left).backward()
        optimizer.step()
    with torch.no_grad():
        assert float((model.encode("video", inputs).argmax(1) == goes_left).float().mean()) > 0.9
        generator, right = torch.Generator().manual_seed(5), 0.0
        for _ in range(24):
            order = torch.randperm(4, generator=generator)
            found = model.encode("video", model.prepare("video", clips[:, order])).argmax(1)
            right += float((found == goes_left).float().mean()) / 24
    assert abs(right - 0.5) < 0.2


def test_frames_that_are_not_there_are_not_seen_and_times_count() -> None:
    encoder = FrameEncoder(frame=Transformer(layers=1, heads=2), layers=1, heads=2)
    model = model_of(video=(EachFrame(frame=Patches(width=16, patch_size=8)), encoder)).eval()
    clips = pans()[:2]
    seen = torch.tensor([[True, True, False, False]] * 2)
    short = model.encode("video", model.prepare("video", clips[:, :2]))
    noisy = clips.clone()
    noisy[:, 2:] = 1.0
    torch.testing.assert_close(model.encode("video", model.prepare("video", {"frames": noisy, "seen": seen})), short)
    times = [torch.tensor([[0.0, gap, 2 * gap, 3 * gap]] * 2) for gap in (0.1, 1.0)]
    near, far = (model.encode("video", model.prepare("video", {"frames": clips, "time_s": t})) for t in times)
    torch.testing.assert_close(
        near, model.encode("video", model.prepare("video", clips))
    )  # places are tenths of seconds
    assert not torch.allclose(near, far, atol=1e-3)


def test_positions() -> None:
    waves = sinusoids(torch.tensor([0.0, 3.0]), 6)
    rates = [10_000 ** (-k / 2) for k in range(3)]
    expected = [[0.0] * 3 + [1.0] * 3, [math.sin(3 * r) for r in rates] + [math.cos(3 * r) for r in rates]]
    torch.testing.assert_close(waves, torch.tensor(expected))
    x = torch.zeros(1, 3, 6)
    torch.testing.assert_close(position_module("none", 5, 6)(x), x)
    assert not bool((position_module("sinusoidal", 5, 6)(x) == 0).all())
    for kind in ("learned", "sinusoidal"):
        with pytest.raises(ValueError, match="3 tokens, positions for 2"):
            position_module(kind, 2, 6)(x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="even width"):
        sinusoids(torch.zeros(1), 5)


def test_streams_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gives frames.*takes tokens"):
        StreamConfig(embedding=EachFrame(frame=Patches()), encoder=Transformer())
    with pytest.raises(ValueError, match="frame: Pixels gives pixels, Transformer takes tokens"):
        StreamConfig(embedding=EachFrame(frame=Pixels()), encoder=FrameEncoder(frame=Transformer()))
    assert Tokens(torch.zeros(1, 1, 1)).mask_BL is None
