"""Models: streams that each turn one kind of input into unit vectors of one common space.

Shape suffixes: B batch, L tokens, W width of a stream, D common (embedding) dimension, C H W picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch.nn.functional as F
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from pretrain.component import Component, parser, to_spec
from pretrain.embeddings.base import Embedding, Inputs, Tokens
from pretrain.encoders.base import Encoder
from pretrain.pictures import Fit, Resample

DEFAULT_IMAGE_SIZE = 64
"""Side in pixels for models trained from scratch on a CPU."""


class Model(nn.Module, ABC):
    """Base of all models. `fit`, `resample` and `image_size` say which square pictures `encode("image", ...)` wants."""

    fit: Fit = "letterbox"
    resample: Resample = "bicubic"
    image_size: int
    embed_dim: int
    stream_names: tuple[str, ...]

    @abstractmethod
    def prepare(self, stream: str, raw: Any) -> Inputs:
        """Tensors of one stream from raw input (list of str; float32 BCHW pictures in 0..1). Runs on the CPU."""

    @abstractmethod
    def encode(self, stream: str, inputs: Inputs) -> Tensor:
        """Unit vectors (B, D)."""

    def encode_with_tokens(self, stream: str, inputs: Inputs) -> tuple[Tensor, Tokens]:  # noqa: ARG002
        """Unit vectors (B, D), and those of the single tokens (B, L, D), for a stream among `token_streams`."""
        raise ValueError(f"{type(self).__name__} gives no single tokens of {stream!r}")

    def trained_log_scale(self) -> float | None:
        """Logarithm of the logit scale that came with pre-trained weights, or None for a model that starts afresh."""
        return None

    def encode_pixels(self, pixels_BSSC: Tensor) -> Tensor:
        """Unit vectors (B, D) of uint8 squares of `image_size`, on the model's device."""
        image_BCHW = pixels_BSSC.permute(0, 3, 1, 2).float().div_(255)  # channels last, as they lay
        return self.encode("image", self.prepare("image", image_BCHW))

    def lengths(self, inputs: Inputs) -> Tensor | None:  # noqa: ARG002
        """(B,) tokens that the vector of each text depends on: `text_BL` may be cut behind them. None if on all."""
        return None

    def to_bfloat16(self) -> bool:
        """Turn the weights into bfloat16 for good, for use only. False, and nothing done, where it is not worth it."""
        return False

    def preprocessing(self) -> dict[str, object]:
        """What happens to an input before the first weight, for keys."""
        return {"image_size": self.image_size, "fit": self.fit, "resample": self.resample}


class ModelConfig(Component, ABC):
    """Base of all model configs (`model:` in a train config; `use` names the class)."""

    @abstractmethod
    def build(self, image_size: int | None = None) -> Model:
        """The model with fresh (or the configured initial) weights, from torch's random generator."""

    @abstractmethod
    def without_weights(self) -> ModelConfig:
        """The same architecture, not started from stored weights."""

    @abstractmethod
    def stream_names(self) -> tuple[str, ...]:
        """Streams that targets may name."""

    def token_streams(self) -> tuple[str, ...]:
        """Those of them whose single tokens targets may ask for."""
        return ()


class StreamConfig(BaseModel):
    """One stream: an embedding (input -> tokens or pixels) and an encoder (-> one vector)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: Annotated[Embedding, BeforeValidator(parser(Embedding, "pretrain.embeddings")), PlainSerializer(to_spec)]
    encoder: Annotated[Encoder, BeforeValidator(parser(Encoder, "pretrain.encoders")), PlainSerializer(to_spec)]

    @model_validator(mode="after")
    def _fits(self) -> StreamConfig:
        if self.embedding.gives != self.encoder.takes:
            raise ValueError(
                f"the embedding {type(self.embedding).__name__} gives {self.embedding.gives}, "
                f"the encoder {type(self.encoder).__name__} takes {self.encoder.takes}"
            )
        return self


class Streams(ModelConfig):
    """A model of any number of streams, each projected without bias to `embed_dim` and normalised.

    init: path of a `model.safetensors` (or of a run folder that holds one) of the same streams to start from.
    """

    embed_dim: int = Field(128, ge=2)
    streams: dict[str, StreamConfig] = Field(min_length=1)
    init: str | None = None

    def stream_names(self) -> tuple[str, ...]:
        return tuple(self.streams)

    def token_streams(self) -> tuple[str, ...]:
        return tuple(name for name, stream in self.streams.items() if stream.encoder.gives_tokens)

    def without_weights(self) -> ModelConfig:
        return self.model_copy(update={"init": None})

    def build(self, image_size: int | None = None) -> Model:
        model = StreamModel(self, image_size or DEFAULT_IMAGE_SIZE)
        if self.init is not None:
            load_weights(model, Path(self.init))
        return model


class Stream(nn.Module):
    """Embedding, encoder and projection of one stream."""

    def __init__(self, config: StreamConfig, embed_dim: int, image_size: int) -> None:
        super().__init__()
        self.embedding = config.embedding.build(image_size)
        width = config.embedding.width_of(image_size)
        self.encoder = config.encoder.build(width, config.embedding.num_tokens_of(image_size))
        out = config.encoder.out_width(width)
        self.projection = nn.Linear(out, embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=out**-0.5)

    def forward(self, inputs: Inputs) -> Tensor:
        return self._unit(self.encoder(self.embedding(**inputs)))

    def with_tokens(self, inputs: Inputs) -> tuple[Tensor, Tokens]:
        """The vectors, and the tokens that they are pooled from, through the same projection."""
        encoder: Any = self.encoder
        tokens = encoder.tokens(self.embedding(**inputs))
        return self._unit(encoder.pooled(tokens)), Tokens(self._unit(tokens.x_BLW), tokens.mask_BL)

    def _unit(self, x: Tensor) -> Tensor:
        return F.normalize(self.projection(x).float(), dim=-1)


class StreamModel(Model):
    """The module of `Streams`."""

    def __init__(self, config: Streams, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.embed_dim = config.embed_dim
        self.stream_names = config.stream_names()
        self._embeddings = {name: stream.embedding for name, stream in config.streams.items()}
        self.streams = nn.ModuleDict(
            {name: Stream(stream, config.embed_dim, image_size) for name, stream in config.streams.items()}
        )

    def prepare(self, stream: str, raw: Any) -> Inputs:
        return self._embeddings[stream].prepare(raw)

    def encode(self, stream: str, inputs: Inputs) -> Tensor:
        vectors: Tensor = self.streams[stream](inputs)
        return vectors

    def encode_with_tokens(self, stream: str, inputs: Inputs) -> tuple[Tensor, Tokens]:
        module: Any = self.streams[stream]
        found: tuple[Tensor, Tokens] = module.with_tokens(inputs)
        return found


class HasState(Protocol):
    """What `load_weights` needs of a module."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> Any: ...


def load_weights(model: HasState, path: Path) -> None:
    """Load a model's weights from a safetensors file or run folder.

    Raises ValueError naming the missing and the unexpected tensors, never skipping one silently.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no weights at {file}")
    stored = load_file(file)
    prefix = "model."
    if any(name.startswith(prefix) for name in stored):  # a run's file holds the targets' parameters too
        stored = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    load_state(model, stored, str(file))


def load_state(model: HasState, stored: dict[str, Tensor], place: str) -> None:
    """Put the tensors `stored` (from `place`) into a module, all of them and nothing else. Raises ValueError."""
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - stored.keys()), sorted(stored.keys() - own.keys())
    shapes = [n for n in own.keys() & stored.keys() if own[n].shape != stored[n].shape]
    if missing or unexpected or shapes:
        raise ValueError(f"{place} does not fit: missing {missing}, unexpected {unexpected}, other shape {shapes}")
    model.load_state_dict(stored)
