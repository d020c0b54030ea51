"""Small assembled models and batches made of tensors, for tests of fusions, decoders and targets that need them."""

from __future__ import annotations

from typing import Any

import torch

from pretrain.config import TrainConfig, parse_config
from pretrain.inputs import model_inputs, model_repeats
from pretrain.objective import Batch, Objective

SIDE, PATCH, WIDTH = 16, 8, 24
WORDS = ("ba", "ci", "do", "fu", "ga", "hi", "ko", "lu", "ma", "ne")


def stream(kind: str, layers: int = 1) -> dict[str, Any]:
    """The config of an image or text stream whose encoder gives tokens."""
    image = {"use": "pretrain.embeddings.pictures.Patches", "width": WIDTH, "patch_size": PATCH, "mask_token": True}
    text = {"use": "pretrain.embeddings.byte_tokens.ByteTokens", "width": WIDTH, "max_tokens": 24}
    encoder = {"use": "pretrain.encoders.transformer.Transformer", "layers": layers, "heads": 2}
    return {"embedding": image if kind == "image" else text, "encoder": encoder}


FUSIONS: dict[str, dict[str, Any]] = {
    "single_stream": {"use": "pretrain.fusions.single_stream.SingleStream", "width": 32, "layers": 2, "heads": 2},
    "cross_attention": {"use": "pretrain.fusions.cross_attention.CrossAttention", "width": 32, "layers": 2, "heads": 2},
    "experts": {"use": "pretrain.fusions.modality_experts.ModalityExperts", "width": 32, "layers": 2, "heads": 2},
}
WRITING: dict[str, Any] = {
    "target_embedding": {"use": "pretrain.embeddings.byte_tokens.ByteTokens", "width": 32, "max_tokens": 24},
    "decoder": {"use": "pretrain.decoders.causal.CausalDecoder", "layers": 1, "heads": 2},
}


def assembled(targets: list[dict[str, Any]], captions: int = 1, **model: Any) -> TrainConfig:
    """A config of image and text streams with these targets (`name.Class`, fields) and more parts of the model."""
    return parse_config(
        {
            "name": "assembled", "steps": 20, "batch_size": 8, "captions_per_image": captions, "image_size": SIDE,
            "device": "cpu",
            "model": {"embed_dim": 16, "streams": {"image": stream("image"), "text": stream("text")}, **model},
            "targets": [{**target, "use": f"pretrain.targets.{target['use']}"} for target in targets],
        }
    )  # fmt: skip


def objective_of(config: TrainConfig, seed: int = 0) -> Objective:
    torch.manual_seed(seed)
    return Objective(config.model.build(config.image_size), config)


def batch_of(objective: Objective, pictures: int = 6, captions: int = 1, seed: int = 0) -> Batch:
    """`pictures` random pictures, each with `captions` texts of its own; group ids are the pictures' numbers."""
    generator = torch.Generator().manual_seed(seed)
    texts = [
        f"{WORDS[p % 10]}{WORDS[(p // 10 + c) % 10]} {WORDS[(3 * p + c) % 10]}"
        for p in range(pictures)
        for c in range(captions)
    ]
    raw = {"image": torch.rand(pictures, 3, SIDE, SIDE, generator=generator), "text": texts}
    return Batch(
        model_inputs(objective.model, raw),
        model_repeats(objective.model, {"image": captions}),
        torch.arange(pictures).repeat_interleave(captions),
    )


def half_of(batch: Batch, rank: int) -> Batch:
    """The first or second half of a batch of one caption a picture, as a worker gets it."""
    number = len(batch.group_B) // 2
    rows = slice(rank * number, (rank + 1) * number)
    inputs = {name: {key: value[rows] for key, value in each.items()} for name, each in batch.inputs.items()}
    for each in inputs.values():  # a worker pads its texts to its own longest
        if "ids_BL" in each:
            each["ids_BL"] = each["ids_BL"][:, : int((each["ids_BL"] != 0).sum(dim=1).max())]
    present = {name: value[rows] for name, value in batch.present.items()}
    return Batch(inputs, batch.repeats, batch.group_B[rows], {}, present)


def overfit(objective: Objective, batch: Batch, steps: int, lr: float = 3e-3) -> float:
    """Adam on one batch; the last loss."""
    optimizer = torch.optim.Adam((p for p in objective.parameters() if p.requires_grad), lr=lr)
    loss = torch.zeros(())
    for step in range(steps):
        objective.set_progress(step / max(1, steps - 1))
        optimizer.zero_grad()
        loss = objective(batch)["loss"]
        loss.backward()
        optimizer.step()
        objective.after_step()
    return loss.item()
