"""UTF-8 bytes as tokens: no vocabulary, every script (ByT5, Xue et al. 2021, arXiv:2105.13626)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.base import Embedding, Form, Inputs, Tokens

_PAD, _START = 0, 257  # byte b is token b + 1


class Utf8Bytes(Embedding):
    """One token a byte of the lower-cased text after a start token, with learned positions; cut at `max_bytes`."""

    gives: ClassVar[Form] = "tokens"

    width: int = Field(192, ge=1)
    max_bytes: int = Field(96, ge=2)

    def width_of(self, image_size: int) -> int:  # noqa: ARG002
        return self.width

    def build(self, image_size: int) -> nn.Module:  # noqa: ARG002
        return ByteTable(self)

    def prepare(self, raw: Any) -> Inputs:
        rows = [
            [_START, *(byte + 1 for byte in text.lower().encode("utf-8", "replace")[: self.max_bytes - 1])]
            for text in raw
        ]
        ids_BL = torch.full((len(rows), max((len(row) for row in rows), default=1)), _PAD, dtype=torch.long)
        for index, row in enumerate(rows):
            ids_BL[index, : len(row)] = torch.tensor(row)
        return {"ids_BL": ids_BL}


class ByteTable(nn.Module):
    """The table and positions of `Utf8Bytes`."""

    def __init__(self, config: Utf8Bytes) -> None:
        super().__init__()
        self.table = nn.Embedding(258, config.width)
        self.position = nn.Parameter(torch.randn(config.max_bytes, config.width) * 0.01)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, ids_BL: Tensor) -> Tokens:
        return Tokens(self.table(ids_BL) + self.position[: ids_BL.shape[1]], ids_BL != _PAD)
