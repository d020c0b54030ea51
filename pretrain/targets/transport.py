"""Optimal transport between the tokens of two streams, as a distance that pulls two encoders together (CTC + OT for
speech and text, arXiv:2301.11716).

Shape suffixes: B rows, L and K tokens of the two streams.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.base import Tokens
from pretrain.fusions.base import seen
from pretrain.targets.base import Encoded, TargetModule, TwoStreams
from pretrain.targets.pairs import mean_over_workers


class OptimalTransport(TwoStreams):
    """Sinkhorn divergence between a row's token vectors of `a` and of `b`, averaged over rows.

    Cost: squared distance of the unit vectors, plus `position` times the squared difference of the places (0 at a
    stream's start, 1 at its end). epsilon: strength of the entropy. The divergence (Feydy et al. 2019,
    arXiv:1810.08278) is 0 for equal sets, which the plain regularised cost is not.
    """

    a: str = "audio"
    b: str = "text"
    epsilon: float = Field(0.1, gt=0)
    iterations: int = Field(50, ge=1)
    position: float = Field(1.0, ge=0)

    def token_streams(self) -> tuple[str, ...]:
        return self.streams()

    def build(self, trained_log_scale: float | None = None) -> nn.Module:  # noqa: ARG002  (it has no scale)
        return OptimalTransportLoss(self)


class OptimalTransportLoss(TargetModule):
    """The module of `OptimalTransport`; it has no parameters."""

    def __init__(self, config: OptimalTransport) -> None:
        super().__init__()
        self.config = config

    def forward(self, batch: Encoded) -> Tensor:
        a, b = batch.tokens[self.config.a], batch.tokens[self.config.b]
        losses_B = divergence(a, b, self.config.epsilon, self.config.iterations, self.config.position)
        return mean_over_workers(losses_B, batch.has(self.config.a, self.config.b), batch.weight_B)


def divergence(a: Tokens, b: Tokens, epsilon: float, iterations: int, position: float) -> Tensor:
    """(B,): OT(a, b) - (OT(a, a) + OT(b, b)) / 2."""

    def transport(x: Tokens, y: Tokens) -> Tensor:
        mask_BL, mask_BK = seen(x, None), seen(y, None)
        cost = (x.x_BLW[:, :, None] - y.x_BLW[:, None, :]).square().sum(dim=-1)
        cost = cost + position * (_places(mask_BL)[:, :, None] - _places(mask_BK)[:, None, :]).square()
        return sinkhorn(cost, mask_BL, mask_BK, epsilon, iterations)[1]

    return transport(a, b) - (transport(a, a) + transport(b, b)) / 2


def sinkhorn(
    cost_BLK: Tensor, mask_BL: Tensor, mask_BK: Tensor, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """(plan (B, L, K), regularised cost (B,)) between even weights on the tokens that are there (arXiv:1306.0895).

    In logarithms, so that a small epsilon does not underflow. The plan's last marginals (over L) are exact, the others
    as good as the number of iterations makes them.
    """
    log_a, log_b = (_log_even(mask) for mask in (mask_BL, mask_BK))
    f, g = torch.zeros_like(log_a), torch.zeros_like(log_b)
    for _ in range(iterations):
        f = -epsilon * torch.logsumexp(log_b[:, None, :] + (g[:, None, :] - cost_BLK) / epsilon, dim=2)
        g = -epsilon * torch.logsumexp(log_a[:, :, None] + (f[:, :, None] - cost_BLK) / epsilon, dim=1)
    exponent = log_a[:, :, None] + log_b[:, None, :] + (f[:, :, None] + g[:, None, :] - cost_BLK) / epsilon
    dual_B = (log_a.exp() * f).sum(dim=1) + (log_b.exp() * g).sum(dim=1)
    return exponent.exp(), dual_B


def _log_even(mask: Tensor) -> Tensor:
    even = mask.float() / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(mask, even.clamp(min=1e-30).log(), torch.full_like(even, math.log(1e-30)))


def _places(mask: Tensor) -> Tensor:
    number = mask.sum(dim=1, keepdim=True)
    return torch.arange(mask.shape[1], device=mask.device) / (number - 1).clamp(min=1)
