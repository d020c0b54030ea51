"""Image-text matching: does this text belong to this picture? (ALBEF, arXiv:2107.07651, section 3.2)

Shape suffixes: B rows of this worker, N rows of all workers, L tokens, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.draws import salt_of
from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import seen
from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, Reads, TargetModule, TwoStreams, hidden
from pretrain.targets.gather import world
from pretrain.targets.late_interaction import gather_tokens
from pretrain.targets.negatives import draw_negatives
from pretrain.targets.pairs import CHUNK_ROWS, Rows, gather_pairs, mean_over_workers

_OTHER_SIDE = 1 << 40
"""Added to the salt of the second draw, so that the two sides draw independently."""


class ImageTextMatching(TwoStreams, HeadTarget):
    """Two-way cross-entropy on the fused vector of true pairs, of pictures with a wrong text and of texts with a wrong
    picture, all with the same weight.

    A wrong partner is never of the row's own group: no caption of the same picture is called wrong. Partners come from
    the batch of all workers, whose tokens are gathered; `scale` sharpens the draw towards similar ones (0: all alike;
    the default is CLIP's starting logit scale 1/0.07). A row without any true negative counts with its true pair only.
    """

    a: str = "image"
    b: str = "text"
    scale: float = Field(1 / 0.07, ge=0)

    def reads(self) -> Reads:
        return Reads(hidden=(self.a, self.b), fuses=True)

    def build_for(self, model: Model) -> nn.Module:
        joint = model.parts()
        if joint is None or joint.fusion_width is None:
            raise ValueError("ImageTextMatching needs a model with a fusion")
        return MatchingLoss(self, joint.fusion_width)


class MatchingLoss(TargetModule):
    """The module of `ImageTextMatching`."""

    def __init__(self, config: ImageTextMatching, width: int) -> None:
        super().__init__()
        self.a, self.b, self.scale = config.a, config.b, config.scale
        self.head = nn.Linear(width, 2)
        nn.init.zeros_(self.head.bias)
        self.salt = 0

    def set_progress(self, done: float) -> None:
        self.salt = salt_of(done)

    def forward(self, batch: Encoded) -> Tensor:
        rows = gather_pairs(batch, self.a, self.b)
        wrong_b_B, has_b_B = self._draw(rows, rows.a_BD, rows.b_ND, self.salt)
        wrong_a_B, has_a_B = self._draw(rows, rows.b_BD, rows.a_ND, self.salt ^ _OTHER_SIDE)
        own_a, own_b = batch.tokens[hidden(self.a)], batch.tokens[hidden(self.b)]
        all_a, all_b = gather_tokens(own_a), gather_tokens(own_b)
        pair_a = stacked([own_a, own_a, taken(all_a, wrong_a_B)])
        pair_b = stacked([own_b, taken(all_b, wrong_b_B), own_b])
        present = {name: rows.counts_B.repeat(3) for name in (self.a, self.b)}
        pooled = batch.fuse({self.a: pair_a, self.b: pair_b}, present).pooled_BW
        is_true = torch.cat([torch.ones_like(rows.group_B), torch.zeros_like(rows.group_B).repeat(2)])
        losses = F.cross_entropy(self.head(pooled), is_true, reduction="none")
        counts = torch.cat([rows.counts_B, rows.counts_B & has_b_B, rows.counts_B & has_a_B])
        weights = None if batch.weight_B is None else batch.weight_B.repeat(3)
        return mean_over_workers(losses, counts, weights)

    @torch.no_grad()
    def _draw(self, rows: Rows, from_BD: Tensor, to_ND: Tensor, salt: int) -> tuple[Tensor, Tensor]:
        """`draw_negatives` of all rows, some at a time."""
        found = []
        for start in range(0, len(from_BD), CHUNK_ROWS):
            chosen = slice(start, start + CHUNK_ROWS)
            allowed = (rows.group_B[chosen, None] != rows.group_N[None, :]) & rows.counts_N[None, :]
            found.append(draw_negatives(self.scale * from_BD[chosen] @ to_ND.T, allowed, rows.own_B[chosen], salt))
        return torch.cat([drawn for drawn, _ in found]), torch.cat([there for _, there in found])

    def is_pair(self, batch: Encoded) -> Tensor:
        """(B,) probability that the rows of the two streams belong together."""
        tokens = {name: batch.tokens[hidden(name)] for name in (self.a, self.b)}
        probability: Tensor = self.head(batch.fuse(tokens).pooled_BW).softmax(dim=1)[:, 1]
        return probability


def taken(tokens: Tokens, rows: Tensor) -> Tokens:
    """The tokens of these rows."""
    return Tokens(tokens.x_BLW[rows], None if tokens.mask_BL is None else tokens.mask_BL[rows])


def stacked(parts: list[Tokens]) -> Tokens:
    """The rows of all parts, padded to the longest."""
    longest = max(part.x_BLW.shape[1] for part in parts)
    x = [F.pad(part.x_BLW, (0, 0, 0, longest - part.x_BLW.shape[1])) for part in parts]
    if all(part.mask_BL is None for part in parts) and world()[1] == 1:
        return Tokens(torch.cat(x))
    masks = [F.pad(seen(part, None), (0, longest - part.x_BLW.shape[1])) for part in parts]
    return Tokens(torch.cat(x), torch.cat(masks))
