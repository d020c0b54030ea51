"""Captioning: the text, token by token, from what the decoder looks at (CoCa, arXiv:2205.01917; SimVLM, prefix)."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.model import TARGET, Model
from pretrain.targets.base import Encoded, HeadTarget, Reads, TargetModule, hidden, ids
from pretrain.targets.pairs import mean_over_workers

_TEXT = "text"


class Captioning(HeadTarget):
    """-log p(token | earlier tokens, the streams in `given`), averaged over all tokens of all texts, the end included.

    Whether the decoder is causal with cross-attention or has a prefix is the model's matter. Rows count that have a
    text and all of `given`.
    """

    given: tuple[str, ...] = Field(("image",), min_length=1)

    def streams(self) -> tuple[str, ...]:
        return ()

    def reads(self) -> Reads:
        return Reads(hidden=self.given, ids=(TARGET,), memory=self.given)

    def build_for(self, model: Model) -> nn.Module:
        return CaptioningLoss(self.given, model.vocabulary(TARGET).pad)


class CaptioningLoss(TargetModule):
    """The module of `Captioning`; it has no parameters of its own."""

    def __init__(self, given: tuple[str, ...], pad: int) -> None:
        super().__init__()
        self.given, self.pad = given, pad

    def forward(self, batch: Encoded) -> Tensor:
        ids_BT = batch.columns[ids(TARGET)]
        memory = {name: batch.tokens[hidden(name)] for name in self.given}
        scores_BTV = batch.next_token_scores(ids_BT[:, :-1], memory)
        next_BT = ids_BT[:, 1:]
        losses_BT = F.cross_entropy(scores_BTV.flatten(0, 1), next_BT.flatten(), reduction="none").view_as(next_BT)
        counts_BT = (next_BT != self.pad) & batch.has(*self.given, _TEXT)[:, None]
        weights = None if batch.weight_B is None else batch.weight_B[:, None].expand_as(losses_BT)
        return mean_over_workers(losses_BT, counts_BT, weights)
