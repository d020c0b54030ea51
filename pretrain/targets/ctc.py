"""CTC: a transcript from a longer row of frames (Graves et al. 2006, "Connectionist Temporal Classification").

Shape suffixes: B rows, T frames, L tokens of the transcript, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.embeddings.base import Tokens, Vocabulary
from pretrain.fusions.base import seen
from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, Reads, TargetModule, hidden, ids
from pretrain.targets.pairs import mean_over_workers


class CTC(HeadTarget):
    """-log of the sum over all alignments of the probability of the text's tokens, per token, averaged over rows.

    stream: whose tokens are the frames. text: input whose token numbers are the transcript (a stream with a vocabulary,
    or `target`); its padding number is the blank, start and end are left out. A transcript that has more tokens (and
    repetitions) than there are frames has no alignment and counts as 0.
    """

    stream: str = "audio"
    text: str = "text"

    def streams(self) -> tuple[str, ...]:
        return ()

    def reads(self) -> Reads:
        return Reads(hidden=(self.stream,), ids=(self.text,))

    def build_for(self, model: Model) -> nn.Module:
        return CTCLoss(self, model.hidden_width(self.stream), model.vocabulary(self.text))


class CTCLoss(TargetModule):
    """The module of `CTC`."""

    def __init__(self, config: CTC, width: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.stream, self.text, self.vocabulary = config.stream, config.text, vocabulary
        self.head = nn.Linear(width, vocabulary.size)

    def forward(self, batch: Encoded) -> Tensor:
        tokens = batch.tokens[hidden(self.stream)]
        number_BL, length_B = transcripts(batch.columns[ids(self.text)], self.vocabulary)
        frames_B = seen(tokens, None).sum(dim=1)
        log_BTV = self.head(tokens.x_BLW).log_softmax(dim=-1)
        losses_B = F.ctc_loss(
            log_BTV.transpose(0, 1), number_BL, frames_B, length_B, blank=self.vocabulary.pad, reduction="none",
            zero_infinity=True,
        )  # fmt: skip
        counts_B = batch.has(self.stream, self.text) & (length_B > 0)
        return mean_over_workers(losses_B / length_B.clamp(min=1), counts_B, batch.weight_B)

    @torch.no_grad()
    def read(self, tokens: Tokens) -> Tensor:
        """(B, T) token numbers of the likeliest alignment: repetitions and blanks taken out, padded with blanks."""
        blank = self.vocabulary.pad
        best_BT = self.head(tokens.x_BLW).argmax(dim=-1).masked_fill(~seen(tokens, None), blank)
        is_new = torch.ones_like(best_BT, dtype=torch.bool)
        is_new[:, 1:] = best_BT[:, 1:] != best_BT[:, :-1]
        return to_the_left(best_BT, is_new & (best_BT != blank), blank)[0]


def transcripts(ids_BL: Tensor, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """(token numbers without start, end and mask, padded on the right; their number in each row)."""
    return to_the_left(ids_BL, vocabulary.ordinary(ids_BL), vocabulary.pad)


def to_the_left(ids_BL: Tensor, keep_BL: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """(those kept, in their order, then padding; how many there are)."""
    order_BL = (~keep_BL).long().argsort(dim=1, stable=True)
    return ids_BL.masked_fill(~keep_BL, pad).gather(1, order_BL), keep_BL.sum(dim=1)
