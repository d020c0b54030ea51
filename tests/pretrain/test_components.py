"""pretrain/embeddings/ and pretrain/encoders/: what each part promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from assembled import assembled

from pretrain.component import choices
from pretrain.config import ConfigError, parse_config
from pretrain.embeddings.base import Embedding, Tokens
from pretrain.embeddings.ngrams import HashedNgrams, word_ngrams
from pretrain.embeddings.pictures import ConvStem, Patches, Pixels
from pretrain.embeddings.utf8 import Utf8Bytes
from pretrain.encoders.base import Encoder
from pretrain.encoders.timm_tower import TimmTower
from pretrain.encoders.transformer import FeedForward, Transformer
from pretrain.model import StreamConfig, Streams, load_state
from pretrain.objective import Objective
from pretrain.pictures import square

TEXTS = ["Nacht", "natt", "", "一只青蛙", "a longer text of several words"]


def vectors(embedding: Any, encoder: Any, raw: Any) -> torch.Tensor:
    torch.manual_seed(0)
    config = Streams(embed_dim=8, streams={"s": StreamConfig(embedding=embedding, encoder=encoder)})
    model = config.build(32).eval()
    with torch.no_grad():
        return model.encode("s", model.prepare("s", raw))


@pytest.mark.parametrize("embedding", [HashedNgrams(width=16), HashedNgrams(width=16, per="word"), Utf8Bytes(width=16)])
@pytest.mark.parametrize(
    "encoder", [FeedForward(), Transformer(layers=1, heads=2), Transformer(layers=1, pool="first")]
)
def test_a_text_does_not_depend_on_its_batch(embedding: Embedding, encoder: Encoder) -> None:
    """Padding must never leak: alone or beside longer texts, a text has the same vector."""
    together = vectors(embedding, encoder, TEXTS)
    alone = torch.cat([vectors(embedding, encoder, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(len(TEXTS)))


@pytest.mark.parametrize(
    ("embedding", "encoder"),
    [
        (ConvStem(width=32, stages=3), FeedForward()),
        (ConvStem(width=32, stages=3), FeedForward(pool="flatten")),
        (ConvStem(width=32, stages=3), Transformer(layers=1)),
        (Patches(width=32, patch_size=8), Transformer(layers=1, heads=2)),
        (Pixels(), TimmTower(name="resnet10t")),
    ],
)
def test_pictures_become_unit_vectors(embedding: Embedding, encoder: Encoder) -> None:
    pictures = torch.rand(3, 3, 32, 32)
    together = vectors(embedding, encoder, pictures)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(vectors(embedding, encoder, pictures[1:2]), together[1:2], atol=1e-5, rtol=1e-4)


def test_cognates_share_ngrams_and_hashing_is_stable() -> None:
    bags = {word: set(word_ngrams(word, (2, 3, 4), 32768, 48)[0].tolist()) for word in ("night", "nacht", "frosch")}
    assert len(bags["night"] & bags["nacht"]) >= 3  # <n, ht, t>, ht>
    assert len(bags["night"] & bags["frosch"]) <= 1
    assert [each.tolist() for each in word_ngrams("Ab", (2,), 1000, 48)] == [
        each.tolist() for each in word_ngrams("ab", (2,), 1000, 48)
    ]
    assert word_ngrams("ab", (2,), 1 << 30, 48)[0].tolist() == [307598866, 465219362, 415512369]


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of patch_size"):
        Patches(patch_size=7).build(32)
    with pytest.raises(ValueError, match="no multiple of 16"):
        ConvStem(stages=4).build(40)
    with pytest.raises(ValueError, match="multiple of heads"):
        Transformer(heads=3).build(32)
    with pytest.raises(ValueError, match="never varies"):
        vectors(HashedNgrams(), FeedForward(pool="flatten"), TEXTS)
    with pytest.raises(ValueError, match="resnet10x"):
        TimmTower(name="resnet10x")


@pytest.mark.family("F23")
def test_shared_towers_hold_the_same_storage() -> None:
    """F23 (d), also after loading, in a copy, and where targets read one of the streams only."""
    config = assembled([{"use": "masked_language.MaskedLanguage", "given": []}], shared=["image", "text"])
    objective = Objective(config.model.build(16), config)
    image, text = (objective.model.streams[name] for name in ("image", "text"))
    for one, other in zip(image.encoder.parameters(), text.encoder.parameters(), strict=True):
        assert one.data_ptr() == other.data_ptr()
        assert one.requires_grad
    assert image.projection.weight is text.projection.weight
    assert not any(each.requires_grad for each in image.embedding.parameters())
    other = config.model.build(16)
    load_state(other, objective.model.state_dict(), "a test")
    assert other.streams["image"].encoder is other.streams["text"].encoder
    for wrong in (["image", "sound"], ["image", "text"]):
        model = config.model_dump(mode="json")["model"] | {"shared": wrong}
        model["streams"]["text"]["encoder"]["heads"] = 3
        with pytest.raises(ConfigError, match="is no stream whose encoder is configured as that of 'image'"):
            parse_config({**config.model_dump(mode="json"), "model": model})


def test_choices_are_found_in_the_packages() -> None:
    assert "pretrain.encoders.transformer.Transformer" in choices(Encoder, "pretrain.encoders")
    found = choices(Embedding, "pretrain.embeddings")
    assert "pretrain.embeddings.utf8.Utf8Bytes" in found
    assert not [path for path in found if path.rsplit(".", 1)[1].startswith("_") or path.endswith(".Embedding")]


@pytest.mark.parametrize("fit", ["letterbox", "crop", "squash"])
def test_squares(fit: Any) -> None:
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, :30] = (255, 0, 0)
    small = square(wide, 16, fit)
    assert small.shape == (16, 16, 3)
    white = (small == 255).all(axis=2)
    assert white.any() == (fit == "letterbox")
    assert white[0].all() == (fit == "letterbox")
    assert small[8, 1].tolist() == [255, 0, 0]  # the left stays left
    assert small[8, 14].tolist() == [0, 0, 0]
    tall = square(np.zeros((300, 1, 3), dtype=np.uint8), 16, fit)
    assert tall.shape == (16, 16, 3)


def test_mean_pool_ignores_padding() -> None:
    module = FeedForward().build(4)
    x = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    noisy = x.clone()
    noisy[~mask] = 99.0
    torch.testing.assert_close(module(Tokens(x, mask)), module(Tokens(noisy, mask)))
