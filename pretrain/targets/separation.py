"""AlignCLIP's separation inside a modality (arXiv:2406.17639), without its InfoNCE term (twice our `InfoNCE`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from pretrain.targets.base import Encoded, check_vectors
from pretrain.targets.gather import gather_rows
from pretrain.targets.pairs import PairModule, PairTarget, by_chunks, gather_pairs, mean_over_workers

if TYPE_CHECKING:
    from pretrain.columns import Column


class IntraModalSeparation(PairTarget):
    """Cross-entropy of each row of a stream against the other rows of the *same* stream, summed over the streams.

    meaning_from: a column with a stored sentence embedding of the caption; a negative's similarity is then multiplied
    by 1 - cos of the meanings, and the diagonal is the similarity of the pair (`a` with `b`). Without it (the released
    default) the diagonal is 1. separate: which streams. Siblings are left out.
    """

    meaning_from: str | None = None
    separate: tuple[str, ...] | None = None
    """None: both streams; the released code separates the texts alone where the meaning is used."""

    @model_validator(mode="after")
    def _separated_are_streams(self) -> Self:
        wrong = sorted(set(self.separate or ()) - {self.a, self.b})
        if wrong or self.separate == ():
            raise ValueError(f"separate names {wrong or 'no stream'}; valid: {self.a}, {self.b}")
        return self

    def columns(self) -> tuple[str, ...]:
        return () if self.meaning_from is None else (self.meaning_from,)

    def check_columns(self, columns: Mapping[str, Column]) -> None:
        check_vectors(columns, *self.columns())

    def build(self, trained_log_scale: float | None = None) -> nn.Module:
        return IntraModalSeparationLoss(self, self.start_scale(trained_log_scale))


class IntraModalSeparationLoss(PairModule):
    """The module of `IntraModalSeparation`."""

    def __init__(self, config: IntraModalSeparation, log_scale: float) -> None:
        super().__init__(config.a, config.b, log_scale, config.chunk_rows)
        self.meaning_from = config.meaning_from
        self.separate = config.separate or (config.a, config.b)

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b, *([self.meaning_from] if self.meaning_from else []))
        scale = self.log_scale.exp()
        if self.meaning_from is not None:
            meaning_BD = F.normalize(batch.columns[self.meaning_from].float(), dim=-1)
            meaning_ND = gather_rows(meaning_BD)
        pair_B = (rows.a_BD * rows.b_BD).sum(dim=1)

        def separation(mine_BD: Tensor, all_ND: Tensor) -> Tensor:
            def losses(chosen: slice) -> Tensor:
                own = rows.own_B[chosen]
                similarity = mine_BD[chosen] @ all_ND.T
                if self.meaning_from is not None:
                    similarity = similarity * (1 - meaning_BD[chosen] @ meaning_ND.T)
                    is_own = F.one_hot(own, similarity.shape[1]).bool()
                    similarity = torch.where(is_own, pair_B[chosen, None], similarity)
                logits = (scale * similarity).masked_fill(rows.ignored(chosen), float("-inf"))
                return F.cross_entropy(logits, own, reduction="none")

            return by_chunks(losses, len(mine_BD), self.chunk_rows)

        streams = {self.a: (rows.a_BD, rows.a_ND), self.b: (rows.b_BD, rows.b_ND)}
        losses_B = torch.stack([separation(*streams[name]) for name in self.separate]).sum(dim=0)
        return mean_over_workers(losses_B, rows.counts_B, batch.weight_B)
