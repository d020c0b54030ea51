"""Towers of the library `transformers` as encoders: text networks on token numbers, picture networks on pixels.

The library is an optional dependency (`pip install tamis[towers]`). Weights come from a folder as `save_pretrained`
writes it (safetensors only), or from the hub by its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pretrain.embeddings.base import Form, Tokens
from pretrain.encoders.base import Encoder
from pretrain.encoders.transformer import Pool, pool_tokens


def library() -> Any:
    """The library `transformers`. Raises ValueError where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise ValueError("towers of `transformers` need that library: pip install 'tamis[towers]'") from error
    return transformers


class _Tower(Encoder):
    """model: folder with `config.json` (and `model.safetensors`), or a name on the hub. weights: `stored` as they come
    with it, or `fresh` from torch's random generator. pool: of the last layer's tokens."""

    gives_tokens: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    weights: Literal["stored", "fresh"] = "stored"
    pool: Pool = "first"

    def without_weights(self) -> Encoder:
        return self.model_copy(update={"weights": "fresh"})

    def out_width(self, width: int) -> int:  # noqa: ARG002
        return int(self._config().hidden_size)

    def _config(self) -> Any:
        towers = library()
        try:
            return towers.AutoConfig.from_pretrained(self.model, local_files_only=Path(self.model).is_dir())
        except (OSError, ValueError) as error:
            raise ValueError(
                f"model {self.model!r}: no folder with a config.json, and not on the hub: {error}"
            ) from error

    def _tower(self) -> Any:
        towers, config = library(), self._config()
        if self.weights == "fresh":
            return towers.AutoModel.from_config(config)
        try:
            tower, said = towers.AutoModel.from_pretrained(
                self.model, use_safetensors=True, local_files_only=Path(self.model).is_dir(), output_loading_info=True
            )
        except OSError as error:
            raise ValueError(f"model {self.model!r}: weights cannot be loaded: {error}") from error
        absent = [name for name in said["missing_keys"] if "pooler" not in name]  # its pooler is not used
        if absent:
            raise ValueError(f"model {self.model!r} lacks weights: {sorted(absent)[:10]}")
        return tower


class TransformersText(_Tower):
    """A text network, such as XLM-R or BERT, on the token numbers of its own tokenizer (`TokenNumbers`)."""

    takes: ClassVar[Form] = "numbers"

    def build(self, width: int, num_tokens: int | None = None) -> nn.Module:  # noqa: ARG002
        return TextTower(self._tower(), self.pool)


class TextTower(nn.Module):
    """The module of `TransformersText`."""

    def __init__(self, tower: Any, pool: Pool) -> None:
        super().__init__()
        self.tower, self.pool = tower, pool
        _freeze_pooler(tower)

    def tokens(self, numbers: tuple[Tensor, Tensor]) -> Tokens:
        """The last layer's tokens."""
        ids_BL, mask_BL = numbers
        return Tokens(self.tower(input_ids=ids_BL, attention_mask=mask_BL.long()).last_hidden_state, mask_BL)

    def pooled(self, tokens: Tokens) -> Tensor:
        """(B, W) of what `tokens` gave."""
        return pool_tokens(tokens.x_BLW, tokens.mask_BL, self.pool)

    def forward(self, numbers: tuple[Tensor, Tensor]) -> Tensor:
        return self.pooled(self.tokens(numbers))


class TransformersImage(_Tower):
    """A picture network, such as ViT or DINOv2, on pixels (`Pixels` with the mean and std that it was trained on)."""

    takes: ClassVar[Form] = "pixels"

    def build(self, width: int, num_tokens: int | None = None) -> nn.Module:  # noqa: ARG002
        if width != 3:
            raise ValueError(f"a picture network takes 3 channels, not {width}")
        return ImageTower(self._tower(), self.pool)


class ImageTower(nn.Module):
    """The module of `TransformersImage`."""

    def __init__(self, tower: Any, pool: Pool) -> None:
        super().__init__()
        self.tower, self.pool = tower, pool
        _freeze_pooler(tower)

    def tokens(self, image_BCHW: Tensor) -> Tokens:
        """The last layer's tokens."""
        return Tokens(self.tower(pixel_values=image_BCHW).last_hidden_state)

    def pooled(self, tokens: Tokens) -> Tensor:
        """(B, W) of what `tokens` gave."""
        return pool_tokens(tokens.x_BLW, tokens.mask_BL, self.pool)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.pooled(self.tokens(image_BCHW))


@torch.no_grad()
def _freeze_pooler(tower: Any) -> None:
    """The library's pooler is left out, so it must not wait for a gradient."""
    pooler = getattr(tower, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.requires_grad_(False)
