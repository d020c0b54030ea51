"""Any timm picture network as an encoder of pixels."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, ClassVar, Self

import timm
from pydantic import Field, field_validator, model_validator
from safetensors.torch import load_file
from torch import nn

from pretrain.embeddings.base import Form
from pretrain.encoders.base import Encoder
from pretrain.model import load_state


class TimmTower(Encoder):
    """`timm.create_model(name, num_classes=0, **options)`: pooled features of a picture.

    pretrained: load timm's weights from the hub (needs the network once). weights: path of a safetensors file with
    exactly the tensors of the network without its classifier. options: of the architecture.
    Networks with batch norm make a row's vector depend on its batch: one process and two then differ.
    """

    takes: ClassVar[Form] = "pixels"
    files: ClassVar[tuple[str, ...]] = ("weights",)

    name: str = "resnet10t"
    pretrained: bool = False
    weights: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if not timm.is_model(name):
            near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 10)) or "see timm.list_models()"
            raise ValueError(f"timm has no architecture {name!r}; similar: {near}")
        return name

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.weights is not None and self.pretrained:
            raise ValueError("give pretrained or weights, not both")
        if self.weights is not None and not Path(self.weights).is_file():
            raise ValueError(f"weights: no file {self.weights}")
        return self

    def without_weights(self) -> Encoder:
        return self.model_copy(update={"pretrained": False, "weights": None})

    def out_width(self, width: int) -> int:  # noqa: ARG002
        tower: Any = timm.create_model(self.name, num_classes=0, **self.options)
        return int(tower.num_features)

    def build(self, width: int, num_tokens: int | None = None) -> nn.Module:  # noqa: ARG002
        if width != 3:
            raise ValueError(f"a picture network takes 3 channels, not {width}")
        tower: nn.Module = timm.create_model(self.name, pretrained=self.pretrained, num_classes=0, **self.options)
        if self.weights is not None:
            load_state(tower, load_file(self.weights), self.weights)
        return tower
