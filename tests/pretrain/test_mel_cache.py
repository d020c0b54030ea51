"""pretrain/mel_cache.py: frames that were kept are those that would be made again, and other settings are others."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segmented import segment, write_segments

from pretrain.config import ConfigError, parse_config
from pretrain.dataset import open_data
from pretrain.embeddings.audio import LogMel
from pretrain.embeddings.mel_stem import MelStem
from pretrain.loader import Loader
from pretrain.mel_cache import MelCache

pytestmark = pytest.mark.family("F13")
RATE = 16_000


def mel(**changes: Any) -> LogMel:
    return LogMel.model_validate({"max_seconds": 1.0, **changes})


def tone(number: int, seconds: float = 0.4) -> np.ndarray:
    time_S = np.arange(int(RATE * seconds)) / RATE
    return np.sin(2 * np.pi * (200 + 90 * number) * time_S).astype(np.float32)


class Decoding:
    """Stands for what a sound is decoded by, and counts."""

    def __init__(self, samples: np.ndarray | None) -> None:
        self.samples, self.calls = samples, 0

    def __call__(self) -> np.ndarray | None:
        self.calls += 1
        return self.samples


def test_a_hit_equals_recomputing(tmp_path: Path) -> None:
    """F13 (e): bit for bit, also in another process' copy and after another cache wrote it."""
    embedding = mel()
    cache, sound = MelCache(tmp_path, embedding), Decoding(tone(1))
    made = cache.frames(b"one", (0.0, 0.4), sound)
    again = cache.frames(b"one", (0.0, 0.4), sound)
    elsewhere = pickle.loads(pickle.dumps(MelCache(tmp_path, mel())))  # noqa: S301
    other = elsewhere.frames(b"one", (0.0, 0.4), Decoding(None))
    assert sound.calls == 1
    assert (cache.hits, cache.misses) == (1, 1)
    expected = embedding.log_mel(torch.from_numpy(tone(1))).numpy()
    for found in (made, again, other):
        assert found is not None
        assert found.dtype == np.float32
        assert np.array_equal(found.view(np.uint32), np.ascontiguousarray(expected).view(np.uint32))
    plain, kept = embedding.prepare([tone(1), tone(2, 0.2)]), embedding.prepare([again, tone(2, 0.2)])
    assert all(torch.equal(plain[name], kept[name]) for name in plain)


@pytest.mark.parametrize(
    "changes",
    [{"num_mels": 40}, {"hop_samples": 200}, {"window_samples": 512}, {"max_seconds": 0.2}, {"sample_rate_hz": 8_000}],
)
def test_other_settings_and_windows_are_other_entries(tmp_path: Path, changes: dict[str, Any]) -> None:
    first = MelCache(tmp_path, mel())
    first.frames(b"one", (0.0, 0.4), Decoding(tone(1)))
    for cache, data, window in (
        (MelCache(tmp_path, mel(**changes)), b"one", (0.0, 0.4)),
        (first, b"two", (0.0, 0.4)),
        (first, b"one", (0.0, 0.3)),
    ):
        sound = Decoding(tone(3))
        found = cache.frames(data, window, sound)
        assert sound.calls == 1
        assert found is not None
    assert MelCache(tmp_path, mel(width=64, position="none")).folder == first.folder
    assert (
        MelCache(tmp_path, MelStem.model_validate({"max_seconds": 1.0, "num_mels": 80})).folder == first.folder
    )  # the same frames


def test_what_is_damaged_is_made_again_and_what_does_not_decode_is_not_kept(tmp_path: Path) -> None:
    cache = MelCache(tmp_path, mel())
    assert cache.frames(b"broken", (0.0, 1.0), Decoding(None)) is None
    assert list(tmp_path.rglob("*.arrays")) == []
    whole = cache.frames(b"one", (0.0, 0.4), Decoding(tone(1)))
    (path,) = tmp_path.rglob("*.arrays")
    for content in (b"", path.read_bytes()[:-7], path.read_bytes()[:-1] + b"\x00\x01"):
        path.write_bytes(content)
        sound = Decoding(tone(1))
        np.testing.assert_array_equal(cache.frames(b"one", (0.0, 0.4), sound), whole)
        assert sound.calls == 1


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of five sounds, of which one is longer than two seconds."""
    samples = [segment(number, film=False, seconds=1.2 if number else 2.6) for number in range(5)]
    return write_segments(tmp_path_factory.mktemp("spoken"), samples).folder


ENCODER = {"use": "pretrain.encoders.transformer.Transformer", "layers": 1, "heads": 2}


def hearing(num_mels: int = 32) -> dict[str, Any]:
    """A stream of sound."""
    mel = {"use": "pretrain.embeddings.audio.LogMel", "width": 16, "max_seconds": 2.0, "num_mels": num_mels}
    return {"source": "audio", "embedding": mel, "encoder": ENCODER}


def loader_of(store: Path, version: Path, **changes: Any) -> Loader:
    reading = {"embedding": {"use": "pretrain.embeddings.byte_tokens.ByteTokens", "width": 16}, "encoder": ENCODER}
    spec = {
        "model": {"embed_dim": 16, "streams": {"text": reading, "audio": hearing()}},
        "targets": [{"use": "pretrain.targets.info_nce.InfoNCE", "a": "audio", "b": "text"}],
        "captions_per_image": 1, "batch_size": 5, "steps": 2, **changes,
    }  # fmt: skip
    config = parse_config(spec)
    model = config.model.build(config.image_size)
    data = open_data(config, [version], store / "cache", model)
    return Loader(data.reader, model, data.columns, config, torch.device("cpu"))


@pytest.mark.parametrize("longer", ["middle", "random", "leave_out"])
def test_batches_with_the_cache_are_those_without(spoken: Path, longer: str, tmp_path: Path) -> None:
    plain = loader_of(tmp_path / "plain", spoken, longer_sounds=longer)
    whole = {"middle": 5, "random": 4, "leave_out": 4}[longer]  # a random window of the longer one is not kept
    for turn in range(2):
        kept = loader_of(tmp_path / "kept", spoken, longer_sounds=longer, sounds="cached")
        for step in range(2):
            one, two = (each.ready(step, each.reader.raw(step)).pieces[0] for each in (plain, kept))
            for name, value in one.inputs["audio"].items():
                assert torch.equal(value, two.inputs["audio"][name])
            assert one.present.keys() == two.present.keys()
            assert all(torch.equal(one.present[name], two.present[name]) for name in one.present)
        mels = kept.reader._mels
        assert mels is not None
        assert (mels.misses, mels.hits) == ((0, 2 * whole) if turn else (whole, whole))
    assert len(list((tmp_path / "kept").rglob("*.arrays"))) == whole


def test_streams_that_hear_in_two_ways_cannot_be_kept(spoken: Path, tmp_path: Path) -> None:
    both = {"embed_dim": 16, "streams": {"audio": hearing(32), "coarse": hearing(40)}}
    contrast = [{"use": "pretrain.targets.info_nce.InfoNCE", "a": "audio", "b": "coarse"}]
    with pytest.raises(ConfigError, match=r"sounds: cached.*LogMel.*sounds: streamed"):
        loader_of(tmp_path, spoken, sounds="cached", model=both, targets=contrast)
