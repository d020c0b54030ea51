"""UTF-8 bytes with the tokens that masking and writing need: every script, no unknown token, no vocabulary to load.

After ByT5 (Xue et al. 2021, arXiv:2105.13626). `utf8.Utf8Bytes` is the shorter kind, for texts that are only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.base import IDS, Embedding, Form, Inputs, Tokens, Vocabulary
from pretrain.embeddings.positions import Position, position_module

VOCABULARY = Vocabulary(size=260, pad=0, start=257, end=258, mask=259)
"""Byte b is token b + 1."""
_INITIAL_STD = 0.02


class ByteTokens(Embedding):
    """A start token, one token a byte, an end token. Case is kept.

    A text longer than `max_tokens` - 2 bytes is cut between two characters and has no end token: it does not end there.
    """

    gives: ClassVar[Form] = "tokens"

    width: int = Field(192, ge=1)
    max_tokens: int = Field(96, ge=3)
    position: Position = "learned"

    def width_of(self, image_size: int) -> int:  # noqa: ARG002  (pictures' size means nothing to texts)
        return self.width

    def vocabulary(self) -> Vocabulary | None:
        return VOCABULARY

    def build(self, image_size: int) -> nn.Module:  # noqa: ARG002
        return TokenTable(VOCABULARY, self.width, self.max_tokens, self.position)

    def prepare(self, raw: Any) -> Inputs:
        return {IDS: padded([self._numbers(text) for text in raw], VOCABULARY.pad)}

    def _numbers(self, text: str) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = self.max_tokens - 2
        kept = data if len(data) <= room else data[:room].decode("utf-8", "ignore").encode("utf-8")
        ending = [VOCABULARY.end] if len(kept) == len(data) else []
        return [VOCABULARY.start, *(byte + 1 for byte in kept), *ending]

    def texts(self, ids_BL: Tensor) -> list[str]:
        """What token numbers say, up to the end token of each row."""
        found = []
        for row in ids_BL.tolist():
            ended = row[: row.index(VOCABULARY.end)] if VOCABULARY.end in row else row
            found.append(bytes(each - 1 for each in ended if 1 <= each <= 256).decode("utf-8", "replace"))
        return found


class TokenTable(nn.Module):
    """A vector for each token, and positions. `table.weight` may also serve as a decoder's output (tied)."""

    def __init__(self, vocabulary: Vocabulary, width: int, max_tokens: int, position: Position) -> None:
        super().__init__()
        self.pad = vocabulary.pad
        self.table = nn.Embedding(vocabulary.size, width)
        nn.init.normal_(self.table.weight, std=_INITIAL_STD)
        self.position = position_module(position, max_tokens, width)

    def forward(self, ids_BL: Tensor) -> Tokens:
        return Tokens(self.position(self.table(ids_BL)), ids_BL != self.pad)


def padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """int64 (B, longest), filled up with `pad`."""
    ids_BL = torch.full((len(rows), max((len(row) for row in rows), default=1)), pad, dtype=torch.long)
    for index, row in enumerate(rows):
        ids_BL[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids_BL
