"""FDT: both streams spelled in one learned set of discrete tokens (Finite Discrete Tokens, arXiv:2303.14865)."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import seen
from pretrain.model import Model
from pretrain.targets.base import Encoded, HeadTarget, TargetModule
from pretrain.targets.info_nce import InfoNCELoss
from pretrain.targets.pairs import CHUNK_ROWS, INITIAL_LOG_SCALE, MAX_LOG_SCALE


class SharedTokens(HeadTarget):
    """InfoNCE of features w e, e being `num_tokens` shared vectors and w the sparsemax of each one's best similarity to
    any of the row's own tokens. The published number of shared tokens is 16,384."""

    a: str = "image"
    b: str = "text"
    num_tokens: int = Field(1024, ge=2)
    log_scale: float = Field(INITIAL_LOG_SCALE, ge=0, le=MAX_LOG_SCALE)
    chunk_rows: int | None = Field(CHUNK_ROWS, ge=1)

    def streams(self) -> tuple[str, ...]:
        return (self.a, self.b)

    def token_streams(self) -> tuple[str, ...]:
        return self.streams()

    def build_for(self, model: Model) -> nn.Module:
        return SharedTokensLoss(self, model.embed_dim)


class SharedTokensLoss(TargetModule):
    """The module of `SharedTokens`."""

    def __init__(self, config: SharedTokens, embed_dim: int) -> None:
        super().__init__()
        self.a, self.b = config.a, config.b
        self.shared_CD = nn.Parameter(torch.randn(config.num_tokens, embed_dim))
        self.contrast = InfoNCELoss(config.a, config.b, config.log_scale, config.chunk_rows)

    def forward(self, batch: Encoded) -> Tensor:
        vectors = {name: self.spelled(batch.tokens[name]) for name in (self.a, self.b)}
        loss: Tensor = self.contrast(dataclasses.replace(batch, vectors=vectors))
        return loss

    def weights(self, tokens: Tokens) -> Tensor:
        """(B, C): how much of each shared token a row has; most are 0, and each row sums to 1."""
        dots_BLC = tokens.x_BLW @ self.shared_CD.T
        return sparsemax(dots_BLC.masked_fill(~seen(tokens, None)[..., None], float("-inf")).amax(dim=1))

    def spelled(self, tokens: Tokens) -> Tensor:
        """(B, D) unit vectors of rows in shared tokens."""
        return F.normalize(self.weights(tokens) @ self.shared_CD, dim=-1)

    def after_step(self) -> None:
        self.contrast.after_step()


def sparsemax(x_BC: Tensor) -> Tensor:
    """The point of the simplex nearest to each row (Martins and Astudillo 2016, arXiv:1602.02068, algorithm 1)."""
    sorted_BC = x_BC.sort(dim=1, descending=True).values
    number_C = torch.arange(1, x_BC.shape[1] + 1, device=x_BC.device)
    total_BC = sorted_BC.cumsum(dim=1)
    size_B1 = (1 + number_C * sorted_BC > total_BC).sum(dim=1, keepdim=True)
    threshold_B1 = (total_BC.gather(1, size_B1 - 1) - 1) / size_B1
    return (x_BC - threshold_B1).clamp(min=0)
