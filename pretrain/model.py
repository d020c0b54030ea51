"""Models: streams that each turn one kind of input into unit vectors of one common space.

Shape suffixes: B batch, L tokens, W width of a stream, D common (embedding) dimension, C H W picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pretrain.component import Component, optional, parser, to_spec
from pretrain.decoders.base import Decoder
from pretrain.embeddings.base import Embedding, Film, Inputs, Masked, Sound, Tokens, Vocabulary
from pretrain.encoders.base import Encoder
from pretrain.fusions.base import Fusion
from pretrain.joint import Joint
from pretrain.pictures import Fit, Resample

DEFAULT_IMAGE_SIZE = 64
"""Side in pixels for models trained from scratch on a CPU."""
TARGET = "target"
"""Name of the target embedding among the inputs."""


class Model(nn.Module, ABC):
    """Base of all models. `fit`, `resample` and `image_size` say which square pictures its streams of pictures want."""

    fit: Fit = "letterbox"
    resample: Resample = "bicubic"
    image_size: int
    embed_dim: int
    stream_names: tuple[str, ...]
    shares_weights: bool = False
    """Whether some weights belong to several streams."""
    sources: dict[str, str]
    """What of a sample feeds each input (see `ModelConfig.sources`)."""

    def encoded(self) -> frozenset[str]:
        """What of a sample some stream encodes: not the texts that a decoder writes."""
        return frozenset(source for name, source in self.sources.items() if name != TARGET)

    def stream_of(self, source: str) -> str:
        """The stream that stands for pictures, texts and so on wherever one is asked for: the one that is called so,
        else the first that reads them. Raises ValueError where none does."""
        names = [name for name, own in self.sources.items() if own == source and name != TARGET]
        if not names:
            raise ValueError(f"no stream of the model reads {source!r}; its streams: {', '.join(self.stream_names)}")
        return source if source in names else names[0]

    def spans(self) -> dict[str, Sound | Film]:
        """What the inputs take of a sample's sound (`audio`) and moving pictures (`video`), where they read them."""
        return {}

    @abstractmethod
    def prepare(self, stream: str, raw: Any) -> Inputs:
        """Tensors of one stream from raw input (list of str; float32 BCHW pictures in 0..1). Runs on the CPU."""

    @abstractmethod
    def encode(self, stream: str, inputs: Inputs) -> Tensor:
        """Unit vectors (B, D)."""

    def encode_with_tokens(self, stream: str, inputs: Inputs) -> tuple[Tensor, Tokens]:  # noqa: ARG002
        """Unit vectors (B, D), and those of the single tokens (B, L, D), for a stream among `token_streams`."""
        raise ValueError(f"{type(self).__name__} gives no single tokens of {stream!r}")

    def encode_with_hidden(self, stream: str, inputs: Inputs) -> tuple[Tensor, Tokens, Tokens]:  # noqa: ARG002
        """As `encode_with_tokens`, and the encoder's tokens as they are (B, L, W), which fusions and decoders read."""
        raise ValueError(f"{type(self).__name__} gives no single tokens of {stream!r}")

    def mask(self, stream: str, inputs: Inputs, rate: float, key_B: Tensor, salt: int) -> Masked:  # noqa: ARG002
        """A stream's inputs with a share of their tokens hidden (see `embeddings.base.Embedding.masked`)."""
        raise ValueError(f"{type(self).__name__} cannot mask the stream {stream!r}")

    def vocabulary(self, name: str) -> Vocabulary:
        """Of a stream of token numbers, or of the target embedding (`target`). Raises ValueError without one."""
        raise ValueError(f"{type(self).__name__} has no vocabulary of {name!r}")

    def hidden_width(self, stream: str) -> int:
        """Width of the encoder's tokens of a stream."""
        raise ValueError(f"{type(self).__name__} gives no single tokens of {stream!r}")

    def patch_width(self, stream: str) -> int:
        """Pixel values of one token of a stream of patches. Raises ValueError for another one."""
        raise ValueError(f"{type(self).__name__} has no patches of {stream!r}")

    def parts(self) -> Joint | None:
        """What reads several streams together: fusion, target embedding and decoder."""
        return None

    def trained_log_scale(self) -> float | None:
        """Logarithm of the logit scale that came with pre-trained weights, or None for a model that starts afresh."""
        return None

    def encode_pixels(self, pixels_BSSC: Tensor) -> Tensor:
        """Unit vectors (B, D) of uint8 squares of `image_size`, on the model's device."""
        image_BCHW = pixels_BSSC.permute(0, 3, 1, 2).float().div_(255)  # channels last, as they lay
        stream = self.stream_of("image")
        return self.encode(stream, self.prepare(stream, image_BCHW))

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

    def maskable_streams(self) -> tuple[str, ...]:
        """Those of them some of whose tokens can be hidden."""
        return ()

    def fused_streams(self) -> tuple[str, ...] | None:
        """Those of them whose tokens the fusion gives back; None without a fusion."""
        return None

    def vocabularies(self) -> tuple[str, ...]:
        """Streams of token numbers; `target` if there is a target embedding."""
        return ()

    def decoder_streams(self) -> tuple[str, ...] | None:
        """Those of them that the decoder looks at while it writes; None without a decoder."""
        return None

    def sources(self) -> dict[str, str]:
        """Each of the model's inputs (streams, `target`), and what of a sample feeds it (`embeddings.base.SOURCES`)."""
        return {name: name for name in self.stream_names()}


class StreamConfig(BaseModel):
    """One stream: an embedding (input -> tokens or pixels) and an encoder (-> one vector).

    source: what of a sample feeds it, `image`, `text`, `audio` or `video`; by default what the stream is called. Or
    `texts.NAME`: a field of the text drawn that holds a text (or several, of which one is drawn), such as the captions
    with things exchanged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = None
    embedding: Annotated[Embedding, BeforeValidator(parser(Embedding, "pretrain.embeddings")), PlainSerializer(to_spec)]
    encoder: Annotated[Encoder, BeforeValidator(parser(Encoder, "pretrain.encoders")), PlainSerializer(to_spec)]

    @model_validator(mode="after")
    def _fits(self) -> StreamConfig:
        if self.embedding.gives != self.encoder.takes:
            raise ValueError(
                f"the embedding {type(self.embedding).__name__} gives {self.embedding.gives}, "
                f"the encoder {type(self.encoder).__name__} takes {self.encoder.takes}"
            )
        inner, each = getattr(self.embedding, "frame", None), getattr(self.encoder, "frame", None)
        if inner is not None and each is not None and inner.gives != each.takes:
            raise ValueError(
                f"frame: {type(inner).__name__} gives {inner.gives}, {type(each).__name__} takes {each.takes}"
            )
        return self


class Streams(ModelConfig):
    """A model of any number of streams, each projected without bias to `embed_dim` and normalised.

    fusion: reads the tokens of several streams. target_embedding, decoder: write texts from what they read.
    through_fusion: a stream's vector is what the fusion makes of it alone, so that the same weights serve as towers and
    as a fusion (VLMo). shared: streams with one encoder and one projection for all (AlignCLIP, arXiv:2406.17639; their
    encoders are configured alike), and one embedding where these are, too. init: path of a `model.safetensors` (or of a
    run folder that holds one) of the same streams to start from.
    """

    files: ClassVar[tuple[str, ...]] = ("init",)

    embed_dim: int = Field(128, ge=2)
    streams: dict[str, StreamConfig] = Field(min_length=1)
    fusion: Annotated[
        Fusion | None, BeforeValidator(optional(parser(Fusion, "pretrain.fusions"))), PlainSerializer(optional(to_spec))
    ] = None
    target_embedding: Annotated[
        Embedding | None,
        BeforeValidator(optional(parser(Embedding, "pretrain.embeddings"))),
        PlainSerializer(optional(to_spec)),
    ] = None
    decoder: Annotated[
        Decoder | None,
        BeforeValidator(optional(parser(Decoder, "pretrain.decoders"))),
        PlainSerializer(optional(to_spec)),
    ] = None
    through_fusion: bool = False
    shared: tuple[str, ...] = ()
    init: str | None = None

    @model_validator(mode="after")
    def _assembles(self) -> Streams:
        tokens = ", ".join(self.token_streams()) or "none"
        for name in self.streams:
            if name == TARGET or not name.isidentifier():
                raise ValueError(f"streams.{name}: a stream's name is a word, and not {TARGET!r}")
        if self.fusion is not None and not self.token_streams():
            raise ValueError("fusion: no stream has an encoder that gives single tokens")
        if self.decoder is not None:
            if self.target_embedding is None:
                raise ValueError("decoder: needs a target_embedding")
            wrong = [name for name in self.decoder.reads if name not in self.token_streams()]
            if wrong:
                raise ValueError(
                    f"decoder.reads = {wrong}: no streams that give single tokens; those that do: {tokens}"
                )
        for name in self.shared:
            if name not in self.streams or self.streams[name].encoder != self.streams[self.shared[0]].encoder:
                raise ValueError(
                    f"shared: {name!r} is no stream whose encoder is configured as that of {self.shared[0]!r}"
                )
        if self.target_embedding is not None and self.target_embedding.vocabulary() is None:
            raise ValueError(
                f"target_embedding: {type(self.target_embedding).__name__} has no vocabulary to write with"
            )
        if self.through_fusion:
            if self.fusion is None or not self.fusion.works_alone():
                raise ValueError("through_fusion: needs a fusion that also takes a single stream")
            towers = [name for name in self.streams if name not in self.token_streams()]
            if towers:
                raise ValueError(f"through_fusion: the streams {towers} give no single tokens")
        return self

    def stream_names(self) -> tuple[str, ...]:
        return tuple(self.streams)

    def token_streams(self) -> tuple[str, ...]:
        return tuple(name for name, stream in self.streams.items() if stream.encoder.gives_tokens)

    def maskable_streams(self) -> tuple[str, ...]:
        return tuple(name for name in self.token_streams() if self.streams[name].embedding.is_maskable())

    def fused_streams(self) -> tuple[str, ...] | None:
        return None if self.fusion is None else self.fusion.gives(self.token_streams())

    def vocabularies(self) -> tuple[str, ...]:
        own = tuple(name for name, stream in self.streams.items() if stream.embedding.vocabulary() is not None)
        return own if self.target_embedding is None else (*own, TARGET)

    def decoder_streams(self) -> tuple[str, ...] | None:
        return None if self.decoder is None else self.decoder.reads

    def sources(self) -> dict[str, str]:
        own = {name: stream.source or name for name, stream in self.streams.items()}
        return own if self.target_embedding is None else {**own, TARGET: "text"}

    def without_weights(self) -> ModelConfig:
        streams = {
            name: stream.model_copy(update={"encoder": stream.encoder.without_weights()})
            for name, stream in self.streams.items()
        }
        return self.model_copy(update={"init": None, "streams": streams})

    def build(self, image_size: int | None = None) -> Model:
        from pretrain.stream_model import StreamModel

        model = StreamModel(self, image_size or DEFAULT_IMAGE_SIZE)
        if self.init is not None:
            load_weights(model, Path(self.init))
        return model


class HasState(Protocol):
    """What `load_weights` needs of a module."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> Any: ...


def load_weights(model: HasState, path: Path) -> None:
    """Load a model's weights from a safetensors file or run folder.

    Raises ValueError naming the missing and the unexpected tensors, never skipping one silently.
    """
    load_state(model, read_weights(path), str(path))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The model's tensors of a safetensors file or run folder. Raises FileNotFoundError or ValueError."""
    stored = tensors_of(weights_file(path))
    prefix = "model."
    if any(name.startswith(prefix) for name in stored):  # a run's file holds the targets' parameters too
        stored = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    return stored


def weights_file(path: Path) -> Path:
    """The safetensors file itself, or that of a run folder. Raises FileNotFoundError."""
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no weights at {file}")
    return file


def tensors_of(file: Path) -> dict[str, Tensor]:
    """What a safetensors file holds. Raises ValueError where it is none, such as a pickled `.pt`, which is not read."""
    try:
        stored: dict[str, Tensor] = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file ({error}); pickled weights are not read") from error
    return stored


def load_state(model: HasState, stored: dict[str, Tensor], place: str) -> None:
    """Put the tensors `stored` (from `place`) into a module, all of them and nothing else. Raises ValueError."""
    check_fits(model, stored, place)
    model.load_state_dict(stored)


def check_fits(model: HasState, stored: dict[str, Tensor], place: str) -> None:
    """Raises ValueError, naming them, where tensors are missing, too many, or of another shape."""
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - stored.keys()), sorted(stored.keys() - own.keys())
    shapes = [n for n in own.keys() & stored.keys() if own[n].shape != stored[n].shape]
    if missing or unexpected or shapes:
        raise ValueError(f"{place} does not fit: missing {missing}, unexpected {unexpected}, other shape {shapes}")
