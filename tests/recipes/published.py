"""Published recipes with what they leave to their user (models, target sets, word lists) put in place by small ones."""

import json
from functools import cache
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from tests.stores import ROOT

RECIPES = ROOT / "curation" / "recipes"
DIM = 16
MODELS = ("ViT-B-32/openai", "ViT-B-16/openai", "ViT-L-14/openai", "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k")
"""Checkpoints that the recipes name; all are replaced by one small model."""
WORDS = ["cat", "dog", "picture", "pattern", "tree"]


def names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


@cache
def small_model(folder: Path) -> str:
    """A small architecture with weights in a local folder, as the hub has them."""
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    torch.manual_seed(0)
    clip = open_clip.CLIP(DIM, CLIPVisionCfg(**vision), CLIPTextCfg(**text))
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"model_cfg": {"embed_dim": DIM, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"local-dir:{folder}"


def published(name: str, folder: Path, **changes: str) -> Path:
    """A copy of a recipe in `folder` that names small models and files; `changes` replace other pieces of its text."""
    import numpy as np

    text = (RECIPES / f"{name}.yaml").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    targets, words = folder / "targets.npy", folder / "words.txt"
    vectors = np.random.default_rng(0).normal(size=(3, DIM)).astype(np.float32)
    np.save(targets, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    words.write_text("\n".join(WORDS) + "\n")
    if any(model in text for model in MODELS):
        small = small_model(folder.parent / "small_model")
        for model in MODELS:
            text = text.replace(f"model: {model}", f'model: "{small}"')
    text = text.replace("imagenet1k_train_l14.npy", str(targets)).replace("imagenet21k_words.txt", str(words))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path
