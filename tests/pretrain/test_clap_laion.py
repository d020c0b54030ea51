"""Checkpoints in the form of LAION's code, made by giving a small model of the library LAION's names back."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.clap import ClapScorer
from pretrain.clap_laion import read_state, renamed
from pretrain.config import ConfigError
from tests.curation.av import media

PIECES = ["<s>", "<pad>", "</s>", "<unk>", *"abdgkorsĠ", "do", "dog", "ba", "bar", "<mask>"]
"""A vocabulary in the form of RoBERTa's: pieces of bytes, a space being Ġ."""
A_DOG_BARKS = [0, 4, 12, 14, 12, 16, 8, 11, 2]
BACK = {
    "audio_model.audio_encoder.batch_norm.": "audio_branch.bn0.",
    "audio_model.audio_encoder.": "audio_branch.",
    "text_model.": "text_branch.",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.self.relative": "attn.relative",
    "projection.linear1": "projection.0",
    "projection.linear2": "projection.2",
}
REAL = """
module.logit_scale_a module.logit_scale_t module.audio_branch.bn0.running_mean
module.audio_branch.bn0.num_batches_tracked
module.audio_branch.patch_embed.proj.weight module.audio_branch.patch_embed.norm.bias
module.audio_branch.layers.0.blocks.0.norm1.weight module.audio_branch.layers.0.blocks.1.attn_mask
module.audio_branch.layers.0.blocks.1.attn.relative_position_bias_table
module.audio_branch.layers.0.blocks.1.attn.relative_position_index module.audio_branch.layers.0.blocks.1.attn.qkv.bias
module.audio_branch.layers.0.blocks.1.attn.proj.weight module.audio_branch.layers.0.blocks.1.mlp.fc1.weight
module.audio_branch.layers.0.blocks.1.mlp.fc2.bias module.audio_branch.layers.0.downsample.reduction.weight
module.audio_branch.layers.0.downsample.norm.weight module.audio_branch.norm.weight
module.audio_branch.spectrogram_extractor.stft.conv_real.weight module.audio_branch.logmel_extractor.melW
module.audio_branch.tscam_conv.weight module.audio_branch.head.bias module.text_branch.embeddings.position_ids
module.text_branch.embeddings.LayerNorm.weight module.text_branch.encoder.layer.0.attention.self.query.weight
module.text_branch.encoder.layer.0.output.dense.bias module.text_branch.pooler.dense.weight
module.text_transform.sequential.0.weight module.audio_transform.sequential.3.bias module.text_projection.0.weight
module.audio_projection.2.bias
"""
"""Names of each kind in a checkpoint as LAION's modules make them."""


def laion_name(name: str) -> str:
    for ours, theirs in BACK.items():
        name = name.replace(ours, theirs)
    if name.startswith("audio_branch"):
        name = name.replace("attention.output.dense", "attn.proj").replace("intermediate.dense", "mlp.fc1")
        name = name.replace("output.dense", "mlp.fc2")
    return name


def as_laion(model: Any, melw: np.ndarray) -> dict[str, torch.Tensor]:
    """The state of a model with LAION's names, and what only LAION's model has."""
    state: dict[str, torch.Tensor] = {}
    whole = model.state_dict()
    for name, value in whole.items():
        if re.search(r"audio_encoder.*attention\.self\.(key|value)\.", name) or name.endswith("token_type_ids"):
            continue
        if re.search(r"audio_encoder.*attention\.self\.query\.", name):
            parts = [whole[name.replace("query", part)] for part in ("query", "key", "value")]
            theirs = laion_name(name).replace("attention.self.query", "attn.qkv")
            state[f"module.{theirs}"] = torch.cat(parts)
        else:
            state[f"module.{laion_name(name)}"] = value
    mask = torch.zeros(64, 64, 64)  # of 8 x 8 windows of 8 x 8 places: 256 pixels in patches of 4
    more = {"audio_branch.layers.0.blocks.1.attn_mask": mask, "audio_branch.tscam_conv.bias": torch.ones(3)}
    more |= {"audio_branch.logmel_extractor.melW": torch.from_numpy(melw.astype(np.float32))}
    more |= {"text_transform.sequential.0.weight": torch.ones(2, 2), "audio_branch.head.bias": torch.ones(3)}
    return state | {f"module.{name}": value for name, value in more.items()}


def made(folder: Path, fused: bool) -> Any:
    """A small model with LAION's constants, its feature extractor and its file, with a tokenizer beside it."""
    transformers = pytest.importorskip("transformers")
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(PIECES)}))
    (folder / "merges.txt").write_text("#version: 0.2\nd o\ndo g\nb a\nba r\n")
    text = {"vocab_size": len(PIECES), "hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 100, "layer_norm_eps": 1e-5}  # fmt: skip
    audio = {"patch_embeds_hidden_size": 16, "depths": [2, 1], "num_attention_heads": [2, 4], "hidden_size": 32,
             "num_mel_bins": 64, "spec_size": 256, "enable_fusion": fused,
             "fusion_type": "aff_2d" if fused else None}  # fmt: skip
    torch.manual_seed(1)
    model = transformers.ClapModel(
        transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    ).eval()
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point():  # norms and biases begin as ones and zeros, which hides one for another
                value.add_(0.05 * torch.rand_like(value))
    features = transformers.ClapFeatureExtractor(
        frequency_min=50, frequency_max=14_000, truncation="fusion" if fused else "rand_trunc"
    )
    path = folder / "630k-audioset-best.pt"
    content = {"epoch": 45, "name": "HTSAT-tiny", "best": np.float64(0.9), "optimizer": {"state": {}, "lr": 1e-4}}
    torch.save(content | {"state_dict": as_laion(model, features.mel_filters_slaney)}, path)
    return model, features, path


@pytest.fixture(scope="module", params=[False, True], ids=["unfused", "fused"])
def laion(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return made(tmp_path_factory.mktemp("laion") / "model", request.param)


def test_the_vectors_are_those_of_the_model_that_was_written(laion: Any) -> None:
    model, features, path = laion
    scorer = ClapScorer(path)
    sound = media.music(4.0, 1)[:, 0]
    inputs = features([sound], sampling_rate=48_000, return_tensors="pt")
    inputs["is_longer"][:] = False  # as LAION's code has it where nothing is longer than ten seconds
    with torch.inference_mode():
        theirs = model.get_audio_features(**inputs).pooler_output.numpy()
        said = model.get_text_features(input_ids=torch.tensor([A_DOG_BARKS])).pooler_output.numpy()
    np.testing.assert_allclose(scorer.encode_sounds([sound])[0], theirs, atol=1e-5)
    np.testing.assert_allclose(scorer.encode_texts(["a dog barks"])[0], said, atol=1e-5)
    # nothing is drawn: a sound of several windows is the same every time
    long = media.music(23.0, 2)[:, 0]
    np.testing.assert_array_equal(scorer.encode_sounds([long])[0], scorer.encode_sounds([long])[0])
    assert scorer.weights_digest == ClapScorer(path).weights_digest


def test_every_name_of_a_real_checkpoint_is_known() -> None:
    tensor = torch.zeros(3, 2)
    found = {name: renamed(name.removeprefix("module."), tensor, Path("x.pt")) for name in REAL.split()}
    left_out = {name for name, made in found.items() if not made}
    assert {name.split(".")[2] for name in left_out if "audio_branch" in name} == {
        "layers", "spectrogram_extractor", "logmel_extractor", "tscam_conv", "head",
    }  # fmt: skip
    assert {name for name in left_out if "_transform" in name or "position_ids" in name} == left_out - {
        name for name in left_out if "audio_branch" in name
    }
    assert [name for name, _ in found["module.audio_branch.layers.0.blocks.1.attn.qkv.bias"]] == [
        f"audio_model.audio_encoder.layers.0.blocks.1.attention.self.{part}.bias" for part in ("query", "key", "value")
    ]
    with pytest.raises(ConfigError, match=r"'audio_branch\.conv_block1\.conv1\.weight' is no weight of HTSAT"):
        renamed("audio_branch.conv_block1.conv1.weight", tensor, Path("x.pt"))


class Runs:
    """What a pickle may do when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "it ran"
    torch.save({"state_dict": {"module.logit_scale_a": torch.zeros(())}, "epoch": Runs(mark)}, path)
    with pytest.raises(ConfigError, match="more than tensors and numbers"):
        ClapScorer(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # it would have


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    model, _, path = made(tmp_path / "model", False)
    whole = torch.load(path, weights_only=False)["state_dict"]
    other = tmp_path / "model" / "other.pt"

    def refused(state: Any, match: str) -> None:
        torch.save(state, other)
        with pytest.raises(ConfigError, match=match):
            ClapScorer(other)

    refused([1, 2], "holds no `state_dict`")
    refused({"state_dict": {"a": 1}}, "holds no `state_dict`")
    pann = {name.replace("patch_embed", "conv_block1"): value for name, value in whole.items()}
    refused(pann, "only HTSAT with RoBERTa")
    refused({**whole, "module.text_branch.embeddings.token_type_embeddings.weight": torch.zeros(2, 128)}, "no RoBERTa")
    lacking = {name: value for name, value in whole.items() if not name.endswith("audio_branch.norm.bias")}
    refused(lacking, r"lacks weights \['audio_model.audio_encoder.norm.bias'\]")
    refused({**whole, "module.audio_branch.logmel_extractor.melW": torch.ones(513, 64)}, "mel filters")
    torch.save(model.state_dict(), other)  # the names of `transformers`
    with pytest.raises(ConfigError, match="only HTSAT with RoBERTa"):
        ClapScorer(other)
    other.write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"other\.pt"):
        ClapScorer(other)
    (tmp_path / "model" / "merges.txt").rename(tmp_path / "merges.txt")
    with pytest.raises(ConfigError, match="RoBERTa's tokenizer"):
        ClapScorer(path)
    (tmp_path / "merges.txt").rename(tmp_path / "model" / "merges.txt")
    vocabulary = {piece: k for k, piece in enumerate([*PIECES, "more"])}
    (tmp_path / "model" / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ConfigError, match="knows 18 tokens, but the tokenizer beside it has 19"):
        ClapScorer(path)
    half = read_state(path)
    torch.save({name: value.half() if value.is_floating_point() else value for name, value in whole.items()}, other)
    assert {value.dtype for value in read_state(other).values() if value.is_floating_point()} == {torch.float32}
    assert half.keys() == read_state(other).keys()
