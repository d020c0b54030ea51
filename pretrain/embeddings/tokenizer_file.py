"""Texts by any tokenizer that a `tokenizer.json` describes (Hugging Face tokenizers).

The numbers go to a whole text tower (`TokenNumbers`) or through a table of our own (`TokenizerTable`). The library is
an optional dependency (`pip install tamis[towers]`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from pretrain.embeddings.base import IDS, Embedding, Form, Inputs, Vocabulary
from pretrain.embeddings.byte_tokens import TokenTable, padded
from pretrain.embeddings.positions import Position


class _FromFile(Embedding):
    """tokenizer: path of a `tokenizer.json`, or of a folder that holds one. max_tokens: more are cut off, the end token
    with them. pad, start, end, mask: the tokens with these meanings; the file's own post-processing is not used."""

    files: ClassVar[tuple[str, ...]] = ("tokenizer",)

    tokenizer: str
    max_tokens: int = Field(64, ge=3)
    pad: str = "<pad>"
    start: str = "<s>"
    end: str = "</s>"
    mask: str = "<mask>"

    @field_validator("tokenizer")
    @classmethod
    def _is_there(cls, tokenizer: str) -> str:
        if not _file(tokenizer).is_file():
            raise ValueError(f"no tokenizer at {_file(tokenizer)}")
        return tokenizer

    @model_validator(mode="after")
    def _knows_them(self) -> _FromFile:
        known = _load(self.tokenizer)
        for name in ("pad", "start", "end", "mask"):
            if known.token_to_id(getattr(self, name)) is None:
                raise ValueError(f"{name} = {getattr(self, name)!r} is no token of {_file(self.tokenizer)}")
        return self

    def vocabulary(self) -> Vocabulary | None:
        known = _load(self.tokenizer)
        pad, start, end, mask = (known.token_to_id(token) for token in (self.pad, self.start, self.end, self.mask))
        return Vocabulary(known.get_vocab_size(with_added_tokens=True), pad, start, end, mask)

    def prepare(self, raw: Any) -> Inputs:
        vocabulary = self.vocabulary()
        assert vocabulary is not None
        found = _load(self.tokenizer).encode_batch(list(raw), add_special_tokens=False)
        rows = [[vocabulary.start, *each.ids, vocabulary.end][: self.max_tokens] for each in found]
        return {IDS: padded(rows, vocabulary.pad)}

    def texts(self, ids_BL: Tensor) -> list[str]:
        """What token numbers say, without special tokens."""
        decoded: list[str] = _load(self.tokenizer).decode_batch(ids_BL.tolist(), skip_special_tokens=True)
        return decoded


class TokenizerTable(_FromFile):
    """A learned vector for each token, and positions."""

    gives: ClassVar[Form] = "tokens"

    width: int = Field(192, ge=1)
    position: Position = "learned"

    def width_of(self, image_size: int) -> int:  # noqa: ARG002
        return self.width

    def build(self, image_size: int) -> nn.Module:  # noqa: ARG002
        vocabulary = self.vocabulary()
        assert vocabulary is not None
        return TokenTable(vocabulary, self.width, self.max_tokens, self.position)


class TokenNumbers(_FromFile):
    """The numbers themselves, for encoders that are whole text towers with a table of their own."""

    gives: ClassVar[Form] = "numbers"

    def width_of(self, image_size: int) -> int:  # noqa: ARG002
        return 1

    def build(self, image_size: int) -> nn.Module:  # noqa: ARG002
        vocabulary = self.vocabulary()
        assert vocabulary is not None
        return WithMask(vocabulary.pad)


class WithMask(nn.Module):
    """Numbers and which of them are tokens."""

    def __init__(self, pad: int) -> None:
        super().__init__()
        self.pad = pad

    def forward(self, ids_BL: Tensor) -> tuple[Tensor, Tensor]:
        return ids_BL, ids_BL != self.pad


def _file(place: str) -> Path:
    return Path(place) / "tokenizer.json" if Path(place).is_dir() else Path(place)


@lru_cache(maxsize=8)
def _load(place: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ValueError("a tokenizer.json needs the library `tokenizers`: pip install 'tamis[towers]'") from error
    return Tokenizer.from_file(str(_file(place)))
