"""The module of `pretrain.model.Streams`: streams, each with a projection, and what reads several of them together.

Shape suffixes: B batch, L tokens, W width of a stream, D common (embedding) dimension.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.embeddings.base import Embedding, Film, Inputs, Masked, Sound, Tokens, Vocabulary
from pretrain.joint import Joint
from pretrain.model import TARGET, Model, StreamConfig, Streams


class Stream(nn.Module):
    """Embedding, encoder and projection of one stream. projected_width: of what is projected, if not the encoder's."""

    def __init__(
        self, config: StreamConfig, embed_dim: int, image_size: int, projected_width: int | None = None
    ) -> None:
        super().__init__()
        self.embedding = config.embedding.build(image_size)
        width = config.embedding.width_of(image_size)
        self.encoder = config.encoder.build(width, config.embedding.num_tokens_of(image_size))
        self.out_width = config.encoder.out_width(width)
        projected = projected_width or self.out_width
        self.projection = nn.Linear(projected, embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=projected**-0.5)

    # FSDP2 gathers the weights before each of these and lets them go behind it, so none of them calls another.

    def forward(self, inputs: Inputs) -> Tensor:
        return self._unit(self.encoder(self.embedding(**inputs)))

    def hidden(self, inputs: Inputs) -> Tokens:
        """The encoder's tokens."""
        return self._hidden(inputs)

    def with_hidden(self, inputs: Inputs) -> tuple[Tensor, Tokens, Tokens]:
        """The vectors, the tokens that they are pooled from through the same projection, and those as they are."""
        hidden = self._hidden(inputs)
        encoder: Any = self.encoder
        return self._unit(encoder.pooled(hidden)), Tokens(self._unit(hidden.x_BLW), hidden.mask_BL), hidden

    def unit(self, x: Tensor) -> Tensor:
        """Projected and normalised."""
        return self._unit(x)

    def _hidden(self, inputs: Inputs) -> Tokens:
        encoder: Any = self.encoder
        tokens: Tokens = encoder.tokens(self.embedding(**inputs))
        return tokens

    def _unit(self, x: Tensor) -> Tensor:
        return F.normalize(self.projection(x).float(), dim=-1)


def share(streams: nn.ModuleDict, names: tuple[str, ...], embeddings: dict[str, Embedding]) -> None:
    """Give these streams the first one's encoder and projection, and its embedding where theirs is configured alike.
    Raises ValueError where their widths differ."""
    first: Any = streams[names[0]] if names else None
    for name in names[1:]:
        other: Any = streams[name]
        shapes = [[value.shape for value in each.encoder.state_dict().values()] for each in (first, other)]
        if shapes[0] != shapes[1] or first.projection.weight.shape != other.projection.weight.shape:
            raise ValueError(
                f"shared: the encoders of {names[0]!r} and {name!r} have other widths or numbers of tokens"
            )
        other.encoder, other.projection = first.encoder, first.projection
        if embeddings[name] == embeddings[names[0]]:
            other.embedding = first.embedding


class StreamModel(Model):
    """The module of `Streams`."""

    def __init__(self, config: Streams, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.embed_dim = config.embed_dim
        self.stream_names = config.stream_names()
        self.sources = config.sources()
        self._embeddings: dict[str, Embedding] = {name: each.embedding for name, each in config.streams.items()}
        self._through_fusion = config.through_fusion
        projected = config.fusion.out_width() if config.through_fusion and config.fusion is not None else None
        self.streams = nn.ModuleDict(
            {name: Stream(each, config.embed_dim, image_size, projected) for name, each in config.streams.items()}
        )
        share(self.streams, config.shared, self._embeddings)
        self.shares_weights = bool(config.shared)
        if config.fusion is not None or config.target_embedding is not None:
            widths = {name: self.hidden_width(name) for name in config.token_streams()}
            self.joint = Joint(widths, image_size, config.fusion, config.target_embedding, config.decoder)
        if config.target_embedding is not None:
            self._embeddings[TARGET] = config.target_embedding

    def spans(self) -> dict[str, Sound | Film]:
        """Raises ValueError where two streams want one source in two ways, or a source that they cannot take."""
        kinds = {"audio": Sound, "video": Film}
        found: dict[str, Sound | Film] = {}
        for name, source in self.sources.items():
            span = self._embeddings[name].span()
            if not isinstance(span, kinds.get(source, type(None))):
                raise ValueError(
                    f"the stream {name!r} reads {source!r}, which {type(self._embeddings[name]).__name__} cannot take"
                )
            if span is not None and found.setdefault(source, span) != span:
                raise ValueError(f"streams want {source!r} in two ways: {found[source]} and {span}")
        return found

    def prepare(self, stream: str, raw: Any) -> Inputs:
        return self._embeddings[stream].prepare(raw)

    def encode(self, stream: str, inputs: Inputs) -> Tensor:
        if self._through_fusion:
            return self._with_hidden(stream, inputs)[0]
        vectors: Tensor = self.streams[stream](inputs)
        return vectors

    def encode_with_tokens(self, stream: str, inputs: Inputs) -> tuple[Tensor, Tokens]:
        return self._with_hidden(stream, inputs)[:2]

    def encode_with_hidden(self, stream: str, inputs: Inputs) -> tuple[Tensor, Tokens, Tokens]:
        return self._with_hidden(stream, inputs)

    def _with_hidden(self, stream: str, inputs: Inputs) -> tuple[Tensor, Tokens, Tokens]:
        module = self._stream(stream)
        if not self._through_fusion:
            found: tuple[Tensor, Tokens, Tokens] = module.with_hidden(inputs)
            return found
        hidden: Tokens = module.hidden(inputs)
        fused = self.joint.fuse({stream: hidden}, {})
        tokens = fused.tokens[stream]
        return module.unit(fused.pooled_BW), Tokens(module.unit(tokens.x_BLW), tokens.mask_BL), hidden

    def mask(self, stream: str, inputs: Inputs, rate: float, key_B: Tensor, salt: int) -> Masked:
        return self._embeddings[stream].masked(inputs, rate, key_B, salt)

    def vocabulary(self, name: str) -> Vocabulary:
        embedding = self._embeddings.get(name)
        found = None if embedding is None else embedding.vocabulary()
        return super().vocabulary(name) if found is None else found

    def hidden_width(self, stream: str) -> int:
        width: int = self._stream(stream).out_width
        return width

    def patch_width(self, stream: str) -> int:
        found = self._embeddings[stream].patch_width()
        return super().patch_width(stream) if found is None else found

    def parts(self) -> Joint | None:
        return self.joint if hasattr(self, "joint") else None

    def _stream(self, name: str) -> Any:
        return self.streams[name]
