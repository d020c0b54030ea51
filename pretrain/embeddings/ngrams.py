"""Hashed character n-grams: a text embedding for every script and language that needs no vocabulary and no download.

Words of related languages share n-grams (Nacht, nacht, natt), so a language never trained on profits from its cousins.
Subword bags after fastText (Bojanowski et al. 2017, arXiv:1607.04606).
Shape suffixes: B texts, L tokens, W width.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.base import Embedding, Form, Inputs, Tokens

_MULTIPLIER = np.uint64(0x100000001B3)
"""The 64-bit FNV prime."""
_SHIFT = np.uint64(29)
_SEED = 0x9E3779B97F4A7C15
"""2^64 / golden ratio: tells n-grams of different n apart."""
_INITIAL_STD = 0.1


class HashedNgrams(Embedding):
    """Each token is the mean vector of the character n-grams of a word (`<word>`) or of the whole text.

    n: the lengths of the n-grams in characters (after NFKC and lower case). buckets: rows of the table that n-grams are
    hashed into. per: "text" gives one token a text (order of words lost), "word" one a word, with learned positions.
    max_words: words beyond are left out.
    """

    gives: ClassVar[Form] = "tokens"

    width: int = Field(192, ge=1)
    buckets: int = Field(32768, ge=2)
    n: tuple[int, ...] = Field((2, 3, 4), min_length=1)
    per: Literal["text", "word"] = "text"
    max_words: int = Field(48, ge=1)

    def width_of(self, image_size: int) -> int:  # noqa: ARG002  (pictures' size means nothing to texts)
        return self.width

    def build(self, image_size: int) -> nn.Module:  # noqa: ARG002
        return NgramBags(self)

    def prepare(self, raw: Any) -> Inputs:
        """ids: bucket ids of all bags, end to end; offsets: where each bag starts; mask_BL: which tokens there are."""
        bags_B = [self._bags(text) for text in raw]
        num_tokens = max((len(bags) for bags in bags_B), default=1)
        mask_BL = torch.zeros(len(bags_B), num_tokens, dtype=torch.bool)
        flat = []
        for row, bags in enumerate(bags_B):
            mask_BL[row, : len(bags)] = True
            flat += [*bags, *[_EMPTY] * (num_tokens - len(bags))]
        lengths = np.array([len(bag) for bag in flat], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(flat) else lengths
        ids = np.concatenate(flat) if flat else _EMPTY
        return {"ids": torch.from_numpy(ids), "offsets": torch.from_numpy(offsets), "mask_BL": mask_BL}

    def _bags(self, text: str) -> tuple[np.ndarray, ...]:
        words = word_ngrams(text, self.n, self.buckets, self.max_words)
        return (np.concatenate(words),) if self.per == "text" else words


_EMPTY = np.zeros(0, dtype=np.int64)


@lru_cache(maxsize=200_000)
def word_ngrams(text: str, sizes: tuple[int, ...], buckets: int, max_words: int) -> tuple[np.ndarray, ...]:
    """For each word its n-grams' bucket ids (int64, 0..buckets-1); a text without words is one empty word `<>`."""
    words = unicodedata.normalize("NFKC", text).lower().split()[:max_words] or [""]
    return tuple(_hashes(f"<{word}>", sizes, buckets) for word in words)


def _hashes(word: str, sizes: tuple[int, ...], buckets: int) -> np.ndarray:
    code_points = np.frombuffer(word.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    found = []
    for n in sizes:
        num = len(code_points) - n + 1
        if num < 1:
            continue
        hashes = np.full(num, (n * _SEED) & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
        for shift in range(n):
            hashes = (hashes ^ code_points[shift : num + shift]) * _MULTIPLIER
            hashes ^= hashes >> _SHIFT
        found.append((hashes % np.uint64(buckets)).astype(np.int64))
    # A word shorter than every n keeps a bag of its own: the hash of its last character.
    return np.concatenate(found) if found else (code_points[-1:] % np.uint64(buckets)).astype(np.int64)


class NgramBags(nn.Module):
    """The table of `HashedNgrams`."""

    def __init__(self, config: HashedNgrams) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(config.buckets, config.width, mode="mean")
        nn.init.normal_(self.table.weight, std=_INITIAL_STD)
        self.position = (
            nn.Parameter(torch.randn(config.max_words, config.width) * 0.01) if config.per == "word" else None
        )

    def forward(self, ids: Tensor, offsets: Tensor, mask_BL: Tensor) -> Tokens:
        num_texts, num_tokens = mask_BL.shape
        x_BLW = self.table(ids, offsets).view(num_texts, num_tokens, -1)
        if self.position is not None:
            x_BLW = x_BLW + self.position[:num_tokens]
        return Tokens(x_BLW, mask_BL)
