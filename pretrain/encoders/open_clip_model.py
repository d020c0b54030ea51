"""Any open_clip model, whole, with its own tokenizer and preprocessing: one line of a config or recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import open_clip
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from pretrain.embeddings.base import Inputs
from pretrain.embeddings.pictures import Normalise
from pretrain.encoders.causal_text import CausalText
from pretrain.model import Model, ModelConfig
from pretrain.normalising import normalised
from pretrain.pictures import Fit, Resample

_FIT: dict[str, Fit] = {"shortest": "crop", "squash": "squash"}
_RESAMPLE: dict[str, Resample] = {"bicubic": "bicubic", "bilinear": "bilinear"}


class OpenClip(ModelConfig):
    """`open_clip.create_model(name, pretrained)` with the streams image and text.

    name: an architecture of open_clip, or `hf-hub:organisation/model`, or `local-dir:/path`. pretrained: one of its
    tags (fetched from the hub once), the path of a checkpoint file, or null for random weights. options: overrides of
    the architecture's `vision_cfg`, `text_cfg`, `embed_dim` and so on.
    """

    files: ClassVar[tuple[str, ...]] = ("pretrained",)

    name: str = "ViT-B-32"
    pretrained: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> OpenClip:
        if ":" in self.name:
            return self
        if self.name not in open_clip.list_models():
            raise ValueError(
                f"open_clip has no architecture {self.name!r}; valid: {', '.join(open_clip.list_models())}"
            )
        tags = open_clip.list_pretrained_tags_by_model(self.name)
        if self.pretrained is not None and self.pretrained not in tags and not Path(self.pretrained).is_file():
            raise ValueError(
                f"pretrained {self.pretrained!r} is no file and no tag of {self.name}; tags: {tags or 'none'}"
            )
        return self

    def places(self) -> list[str]:
        scheme, _, folder = self.name.partition(":")
        return [*([folder] if scheme == "local-dir" else []), *super().places()]

    def stream_names(self) -> tuple[str, ...]:
        return ("image", "text")

    def without_weights(self) -> ModelConfig:
        # With a hub's or a folder's name the architecture comes with the weights.
        return self if ":" in self.name else self.model_copy(update={"pretrained": None})

    def build(self, image_size: int | None = None) -> Model:
        return OpenClipModel(self, image_size)


class OpenClipModel(Model):
    """The module of `OpenClip`."""

    stream_names = ("image", "text")
    sources = {"image": "image", "text": "text"}

    def __init__(self, config: OpenClip, image_size: int | None) -> None:
        super().__init__()
        self.clip = open_clip.create_model(
            config.name,
            pretrained=config.pretrained,
            force_image_size=image_size,
            weights_only=True,
            **config.options,
        )
        preprocess = open_clip.get_model_preprocess_cfg(self.clip)
        size = preprocess["size"]
        self.image_size = int(size if isinstance(size, int) else size[0])
        if preprocess["resize_mode"] not in _FIT or preprocess["interpolation"] not in _RESAMPLE:
            raise ValueError(f"{config.name}: preprocessing not supported: {preprocess}")
        self.fit = _FIT[preprocess["resize_mode"]]
        self.resample = _RESAMPLE[preprocess["interpolation"]]
        self.normalise = Normalise(tuple(preprocess["mean"]), tuple(preprocess["std"]))
        self._colours = [list(preprocess["mean"]), list(preprocess["std"])]
        self._is_trained = config.pretrained is not None or ":" in config.name
        context_length = (config.options.get("text_cfg") or {}).get("context_length")
        self._tokenizer = open_clip.get_tokenizer(config.name, context_length=context_length)
        # The scale belongs to the target; left a parameter here it would never get a gradient.
        self.clip.logit_scale.requires_grad_(False)
        if getattr(self.clip, "logit_bias", None) is not None:
            self.clip.logit_bias.requires_grad_(False)
        with torch.no_grad():
            self.embed_dim = int(self.clip.encode_text(self._tokenizer([""])).shape[-1])
        self._causal_text = CausalText.of(self.clip)

    def prepare(self, stream: str, raw: Any) -> Inputs:
        return {"text_BL": self._tokenizer(list(raw))} if stream == "text" else {"image_BCHW": raw}

    def encode(self, stream: str, inputs: Inputs) -> Tensor:
        if stream == "text":
            trimmed = self._causal_text is not None and inputs["text_BL"].shape[1] < self.clip.context_length
            encode = self._causal_text if trimmed and self._causal_text is not None else self.clip.encode_text
            vectors = encode(inputs["text_BL"])
        else:
            image_BCHW = self.normalise(inputs["image_BCHW"])
            vectors = self.clip.encode_image(image_BCHW.to(next(self.clip.parameters()).dtype))
        return F.normalize(vectors.float(), dim=-1)

    def encode_pixels(self, pixels_BSSC: Tensor) -> Tensor:
        weight = next(self.clip.parameters())
        image_BSSC = normalised(pixels_BSSC, self.normalise.mean, self.normalise.std, weight.dtype)
        return F.normalize(self.clip.encode_image(image_BSSC.permute(0, 3, 1, 2)).float(), dim=-1)

    def lengths(self, inputs: Inputs) -> Tensor | None:
        return None if self._causal_text is None else self._causal_text.lengths(inputs["text_BL"])

    def to_bfloat16(self) -> bool:
        # all of it: autocast would cast the weights anew in every call, which on a CPU costs more than it gains
        self.clip.to(torch.bfloat16)
        return True

    def preprocessing(self) -> dict[str, object]:
        tokenizer = [type(self._tokenizer).__name__, getattr(self._tokenizer, "context_length", None)]
        return {**super().preprocessing(), "colours": self._colours, "tokenizer": tokenizer}

    def trained_log_scale(self) -> float | None:
        return float(self.clip.logit_scale) if self._is_trained else None
