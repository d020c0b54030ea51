"""Towers of other libraries, loaded from small checkpoints that the tests write; the numbers are the library's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import spec

from pretrain.component import files_of
from pretrain.config import parse_config
from pretrain.embeddings.pictures import Pixels
from pretrain.embeddings.tokenizer_file import TokenizerTable, TokenNumbers
from pretrain.embeddings.video import EachFrame
from pretrain.encoders.frames import FrameEncoder
from pretrain.encoders.timm_tower import TimmTower
from pretrain.encoders.transformer import Transformer
from pretrain.encoders.transformers_tower import TransformersImage, TransformersText
from pretrain.model import Model, StreamConfig, Streams
from pretrain.run import run_key

WORDS = ["<pad>", "<s>", "</s>", "<mask>", "<unk>", "a", "red", "frog", "boat"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: index for index, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(WORDS[:5])
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    return str(folder)


def model_of(embedding: Any, encoder: Any) -> Model:
    torch.manual_seed(0)
    return Streams(embed_dim=8, streams={"s": StreamConfig(embedding=embedding, encoder=encoder)}).build(32).eval()


def test_a_tokenizer_file_gives_its_numbers(tokenizer: str) -> None:
    embedding = TokenizerTable(tokenizer=tokenizer, width=16, max_tokens=6)
    ids = embedding.prepare(["a red frog", "boat", "a red frog boat boat boat"])["ids_BL"]
    assert ids.tolist() == [[1, 5, 6, 7, 2, 0], [1, 8, 2, 0, 0, 0], [1, 5, 6, 7, 8, 8]]
    assert embedding.texts(ids)[:2] == ["a red frog", "boat"]
    model = model_of(embedding, Transformer(layers=1))
    together = model.encode("s", model.prepare("s", ["a red frog", "boat"]))
    torch.testing.assert_close(together[1:], model.encode("s", model.prepare("s", ["boat"])), atol=1e-5, rtol=1e-4)
    assert model.vocabulary("s").mask == 3
    with pytest.raises(ValueError, match=r"mask = '\[MASK\]' is no token of .*tokenizer.json"):
        TokenizerTable(tokenizer=tokenizer, mask="[MASK]")
    with pytest.raises(ValueError, match="no tokenizer at"):
        TokenizerTable(tokenizer=tokenizer + "/nothing.json")


def test_a_text_tower_of_transformers_from_a_local_checkpoint(tokenizer: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(3)
    theirs = transformers.BertModel(config).eval()
    theirs.save_pretrained(tmp_path)
    numbers = TokenNumbers(tokenizer=tokenizer)
    model = model_of(numbers, TransformersText(model=str(tmp_path)))
    inputs = model.prepare("s", ["a red frog", "boat"])
    mask = inputs["ids_BL"] != 0
    expected = theirs(input_ids=inputs["ids_BL"], attention_mask=mask.long()).last_hidden_state
    _, _, hidden = model.encode_with_hidden("s", inputs)
    torch.testing.assert_close(hidden.x_BLW[mask], expected[mask])
    fresh = model_of(numbers, TransformersText(model=str(tmp_path), weights="fresh"))
    assert not torch.allclose(fresh.encode_with_hidden("s", inputs)[2].x_BLW[mask], expected[mask], atol=1e-2)
    assert all(bool(p.isfinite().all()) for p in fresh.parameters())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="weights cannot be loaded"):
        model_of(numbers, TransformersText(model=str(tmp_path)))
    with pytest.raises(ValueError, match=r"config\.json"):
        model_of(numbers, TransformersText(model=str(tmp_path / "nothing")))


def test_a_picture_tower_of_transformers_from_a_local_checkpoint(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
    )
    theirs = transformers.ViTModel(config).eval()
    theirs.save_pretrained(tmp_path)
    half = (0.5, 0.5, 0.5)
    model = model_of(Pixels(mean=half, std=half), TransformersImage(model=str(tmp_path)))
    image = torch.rand(2, 3, 32, 32)
    hidden = model.encode_with_hidden("s", model.prepare("s", image))[2]
    torch.testing.assert_close(hidden.x_BLW, theirs(pixel_values=(image - 0.5) / 0.5).last_hidden_state)


def test_the_key_of_a_run_holds_what_its_towers_files_hold(tokenizer: str, tmp_path: Path) -> None:
    """Other weights or tokens under the same path are another run; a finished run needs the weights no more."""
    weights, words, folder = tmp_path / "tower.safetensors", tmp_path / "tokenizer.json", tmp_path / "folder"
    folder.mkdir()
    weights.write_bytes(b"one")
    words.write_bytes((Path(tokenizer) / "tokenizer.json").read_bytes())
    (folder / "config.json").write_text("{}")
    picture = TimmTower(name="resnet10t", weights=str(weights))
    film = StreamConfig(embedding=EachFrame(frame=Pixels(), num_frames=2), encoder=FrameEncoder(frame=picture))
    texts = StreamConfig(embedding=TokenNumbers(tokenizer=str(words)), encoder=TransformersText(model=str(folder)))
    model = Streams(embed_dim=8, streams={"video": film, "text": texts})
    assert files_of(model) == [str(weights), str(words), str(folder)]
    settings = parse_config(spec()).model_copy(update={"model": model})
    keys = {run_key(settings, "0" * 64)}
    for changed in (
        lambda: weights.write_bytes(b"two"),
        lambda: words.write_bytes(words.read_bytes() + b" "),
        lambda: (folder / "model.safetensors").write_bytes(b"one"),
        lambda: (folder / "model.safetensors").write_bytes(b"two"),
    ):
        changed()
        keys.add(run_key(settings, "0" * 64))
    assert len(keys) == 5
    (folder / "README.md").write_text("other words")
    assert run_key(settings, "0" * 64) in keys
    alone = model.without_weights()
    assert isinstance(alone, Streams)
    assert alone.streams["video"].encoder == FrameEncoder(frame=TimmTower(name="resnet10t"))
    assert alone.streams["text"].encoder == TransformersText(model=str(folder), weights="fresh")


def test_a_timm_tower_from_a_local_checkpoint(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(5)
    theirs = timm.create_model("resnet10t", num_classes=0).eval()
    file = tmp_path / "tower.safetensors"
    save_file(theirs.state_dict(), file)
    model = model_of(Pixels(), TimmTower(name="resnet10t", weights=str(file)))
    tower: Any = model.get_submodule("streams.s.encoder")
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(tower(image), theirs(image))
    save_file({"nothing": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="does not fit: missing"):
        model_of(Pixels(), TimmTower(name="resnet10t", weights=str(file)))
    with pytest.raises(ValueError, match="no file"):
        TimmTower(name="resnet10t", weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match="not both"):
        TimmTower(name="resnet10t", weights=str(file), pretrained=True)
