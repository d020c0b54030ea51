"""What reads several streams together: a fusion, a target embedding and a decoder, each if the config has it.

Shape suffixes: B rows, L tokens of a stream, T target tokens, V vocabulary, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pretrain.decoders.base import Decoder
from pretrain.embeddings.base import Embedding, Tokens, Vocabulary
from pretrain.fusions.base import Fused, Fusion


class Joint(nn.Module):
    """The modules, for streams whose encoders' tokens have these widths."""

    def __init__(
        self,
        widths: dict[str, int],
        image_size: int,
        fusion: Fusion | None,
        target_embedding: Embedding | None,
        decoder: Decoder | None,
    ) -> None:
        super().__init__()
        self.fusion = None if fusion is None else fusion.build(widths)
        self.fusion_width = None if fusion is None else fusion.out_width()
        self.vocabulary: Vocabulary | None = None if target_embedding is None else target_embedding.vocabulary()
        self.reads: tuple[str, ...] = () if decoder is None else decoder.reads
        self.target_embedding = self.decoder = self.scores = None
        if target_embedding is not None:
            self.target_embedding = target_embedding.build(image_size)
        if decoder is not None and target_embedding is not None and self.vocabulary is not None:
            width = target_embedding.width_of(image_size)
            self.decoder = decoder.build(width, {name: widths[name] for name in decoder.reads})
            self.scores = None if decoder.tied else nn.Linear(width, self.vocabulary.size, bias=False)
            if decoder.tied and not isinstance(getattr(self.target_embedding, "table", None), nn.Embedding):
                raise ValueError(f"decoder.tied: {type(target_embedding).__name__} has no table of tokens to share")

    def fuse(self, tokens: dict[str, Tokens], present: dict[str, Tensor]) -> Fused:
        """Tokens of one or more streams, fused. Raises ValueError without a fusion."""
        if self.fusion is None:
            raise ValueError("the model has no fusion")
        fused: Fused = self.fusion(tokens, present)
        return fused

    def next_token_scores(self, ids_BT: Tensor, memory: dict[str, Tokens], present: dict[str, Tensor]) -> Tensor:
        """(B, T, V): scores of the token that follows each of `ids_BT`. Raises ValueError without a decoder."""
        if self.decoder is None or self.target_embedding is None:
            raise ValueError("the model has no decoder")
        state_BTW = self.decoder(self.target_embedding(ids_BT).x_BLW, memory, present)
        if self.scores is not None:
            scores: Tensor = self.scores(state_BTW)
            return scores
        table: Any = self.target_embedding.table
        tied: Tensor = state_BTW @ table.weight.T
        return tied

    @torch.no_grad()
    def write(self, memory: dict[str, Tokens], max_tokens: int, present: dict[str, Tensor] | None = None) -> Tensor:
        """(B, T) token numbers, always the likeliest next one, from after the start to the end token or `max_tokens`.

        Every step reads all earlier tokens anew: for captions of some hundred tokens, not for books.
        """
        if self.vocabulary is None:
            raise ValueError("the model has no target embedding")
        first = next(iter(memory.values())).x_BLW
        ids_BT = torch.full((len(first), 1), self.vocabulary.start, device=first.device)
        ended_B = torch.zeros(len(first), dtype=torch.bool, device=first.device)
        for _ in range(max_tokens):
            scores_BV = self.next_token_scores(ids_BT, memory, present or {})[:, -1]
            next_B = scores_BV.argmax(dim=-1).masked_fill(ended_B, self.vocabulary.pad)
            ids_BT = torch.cat([ids_BT, next_B[:, None]], dim=1)
            ended_B = ended_B | (next_B == self.vocabulary.end)
            if bool(ended_B.all()):
                break
        return ids_BT[:, 1:]
