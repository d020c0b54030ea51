"""What all targets of a run want of a batch together, and putting it into `Encoded`. Shapes as in `model.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.embeddings.base import IDS, Inputs, Tokens
from pretrain.model import Model, ModelConfig
from pretrain.targets.base import Encoded, Target, hidden, ids, masked, truth
from pretrain.targets.gather import is_spread

Ways = Mapping[str, Callable[[str, Inputs], Any]]
WAYS = ("encode", "encode_with_tokens", "encode_with_hidden")
"""Methods of a model that encode a stream."""


@dataclass(frozen=True)
class Wanted:
    """vectors: of which streams. tokens, hidden: whose tokens. masked: stream -> share of its tokens. ids: names
    whose token numbers. fuses, decodes: whether any target does."""

    vectors: frozenset[str]
    tokens: frozenset[str]
    hidden: frozenset[str]
    masked: Mapping[str, float]
    ids: frozenset[str]
    fuses: bool
    decodes: bool

    @property
    def streams(self) -> frozenset[str]:
        """Those that are encoded at all."""
        return self.vectors | self.tokens | self.hidden | frozenset(self.masked)

    @classmethod
    def by(cls, targets: Iterable[Target]) -> Wanted:
        """Of these targets. Raises ValueError where two want a stream masked differently."""
        all_of = list(targets)
        reads = [target.reads() for target in all_of]
        rates: dict[str, float] = {}
        for each in reads:
            for stream, rate in each.masked.items():
                if rates.setdefault(stream, rate) != rate:
                    raise ValueError(f"targets want different shares of {stream!r} masked: {rates[stream]} and {rate}")
        return cls(
            frozenset(stream for target in all_of for stream in target.streams()),
            frozenset(stream for target in all_of for stream in target.token_streams()),
            frozenset(name for each in reads for name in each.hidden),
            rates,
            frozenset(name for each in reads for name in each.ids),
            any(each.fuses or each.fused for each in reads),
            any(each.memory for each in reads),
        )


def check(index: int, target: Target, model: ModelConfig) -> None:
    """Raises ValueError, with the valid names, where a target wants something of the model that it does not have."""
    place = f"targets.{index}: {type(target).__name__}"
    reads = target.reads()
    fused = model.fused_streams()
    if (reads.fuses or reads.fused) and fused is None:
        raise ValueError(f"{place} needs model.fusion, which is not there")
    written = model.decoder_streams()
    for name in reads.memory:
        if written is None:
            raise ValueError(f"{place} needs model.decoder, which is not there")
        if name not in written:
            raise ValueError(f"{place} writes from {name!r}; the decoder reads: {', '.join(written)}")
    wishes = [
        ("reads tokens of", (*target.token_streams(), *reads.hidden),
         model.token_streams(), "streams that give single tokens"),
        ("masks", tuple(reads.masked), model.maskable_streams(), "streams whose tokens can be hidden"),
        ("reads token numbers of", reads.ids, model.vocabularies(), "inputs with a vocabulary"),
        ("wants fused tokens of", reads.fused, fused or (), "streams whose tokens the fusion gives back"),
    ]  # fmt: skip
    for verb, names, valid, kind in wishes:
        for name in names:
            if name not in valid:
                raise ValueError(f"{place} {verb} {name!r}; {kind}: {', '.join(valid) or 'none'}")


def freeze_unread(model: Model, wanted: Wanted) -> list[str]:
    """Stop training what no target reads, so that workers do not wait for its gradient; returns their names."""
    joint = model.parts()
    unread: dict[str, Tensor] = {}
    read: set[int] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):  # streams may share weights
        kind, _, rest = name.partition(".")
        part = rest.partition(".")[0]
        is_read = True
        if kind == "streams" and part in model.stream_names:
            is_read = part in wanted.streams
        elif kind == "joint" and joint is not None:
            through = wanted.fuses or getattr(model, "_through_fusion", False)
            is_read = through if part == "fusion" else wanted.decodes
        if is_read:
            read.add(id(parameter))
        elif parameter.requires_grad:
            unread[name] = parameter
    left = [name for name, parameter in unread.items() if id(parameter) not in read]
    for name in left:
        unread[name].requires_grad_(False)
    return left


def encode_stream(
    model: Model, ways: Ways, wanted: Wanted, stream: str, inputs: Inputs, repeats: int, salt: int, into: Encoded
) -> None:
    """Put what is wanted of one stream into `into`. ways: the model's methods `WAYS`, perhaps compiled."""

    def rows(tensor: Tensor) -> Tensor:
        return tensor.float().repeat_interleave(repeats, dim=0)

    def spread(tokens: Tokens) -> Tokens:
        mask_BL = None if tokens.mask_BL is None else tokens.mask_BL.repeat_interleave(repeats, dim=0)
        return Tokens(rows(tokens.x_BLW), mask_BL)

    if stream in wanted.hidden:
        vector_BD: Tensor | None
        vector_BD, tokens, found = ways["encode_with_hidden"](stream, inputs)
        into.tokens[hidden(stream)] = spread(found)
        if stream in wanted.tokens:
            into.tokens[stream] = spread(tokens)
    elif stream in wanted.tokens:
        vector_BD, tokens = ways["encode_with_tokens"](stream, inputs)
        into.tokens[stream] = spread(tokens)
    elif stream in wanted.vectors:
        vector_BD = ways["encode"](stream, inputs)
    else:
        vector_BD = None
    if vector_BD is not None:
        into.vectors[stream] = rows(vector_BD)
    if wanted.masked.get(stream, 0.0) > 0:
        _encode_masked(model, ways, stream, inputs, wanted.masked[stream], repeats, salt, into, spread)


def _encode_masked(
    model: Model, ways: Ways, stream: str, inputs: Inputs, rate: float, repeats: int, salt: int, into: Encoded,
    spread: Callable[[Tokens], Tokens],
) -> None:  # fmt: skip
    hidden_in = model.mask(stream, inputs, rate, into.group_B[::repeats], salt)
    _, _, found = ways["encode_with_hidden"](stream, hidden_in.inputs)
    into.tokens[masked(stream)] = spread(found)
    into.columns[masked(stream)] = hidden_in.mask_BL.repeat_interleave(repeats, dim=0)
    into.columns[truth(stream)] = hidden_in.truth.repeat_interleave(repeats, dim=0)


def add_ids(wanted: Wanted, inputs: dict[str, Inputs], repeats: dict[str, int], into: Encoded) -> None:
    """Put the token numbers that are wanted into `into`."""
    for name in sorted(wanted.ids):
        into.columns[ids(name)] = inputs[name][IDS].repeat_interleave(repeats.get(name, 1), dim=0)


def keep_alive(module: nn.Module) -> Tensor:
    """0, with a gradient of 0 for every weight that is trained: workers wait for a gradient of each of them."""
    total = torch.zeros(())
    for parameter in module.parameters():
        if parameter.requires_grad and not is_spread(parameter):  # FSDP2 does not wait
            total = total.to(parameter.device) + parameter.sum() * 0
    return total
