"""The transformer block of fusions and decoders: self-attention, cross-attention to others, feed-forward experts.

Pre-norm. Unlike torch's own layers, a row that may see no key at all (a missing modality) gets exactly nothing from the
attention instead of NaN. Shape suffixes: B rows, Q queries, K keys, L tokens, W width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def heads_of(width: int, heads: int | None) -> int:
    """The number of heads, by default one for every 64 of the width. Raises ValueError where it does not divide it."""
    number = heads or max(1, width // 64)
    if width % number:
        raise ValueError(f"width {width} is no multiple of heads {number}")
    return number


class Attention(nn.Module):
    """Multi-head attention (arXiv:1706.03762, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        for layer in (self.query, self.key_value, self.out):
            nn.init.normal_(layer.weight, std=width**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x_BQW: Tensor, keys_BKW: Tensor, allowed: Tensor) -> Tensor:
        """(B, Q, W). allowed: bool (B, K) or (B, Q, K), which keys a row, or each of its queries, may see."""
        allowed_BQK = allowed[:, None, :] if allowed.ndim == 2 else allowed
        sees_something = allowed_BQK.any(dim=-1, keepdim=True)
        mask_B1QK = (allowed_BQK | ~sees_something)[:, None]
        key_BKW, value_BKW = self.key_value(keys_BKW).chunk(2, dim=-1)
        made_BHQW = F.scaled_dot_product_attention(
            self._split(self.query(x_BQW)), self._split(key_BKW), self._split(value_BKW), attn_mask=mask_B1QK
        )
        made_BQW: Tensor = self.out(made_BHQW.transpose(1, 2).flatten(2))
        return made_BQW * sees_something

    def _split(self, x_BLW: Tensor) -> Tensor:
        num_rows, num_tokens, width = x_BLW.shape
        return x_BLW.view(num_rows, num_tokens, self.heads, width // self.heads).transpose(1, 2)


class Expert(nn.Sequential):
    """Layer norm and feed-forward."""

    def __init__(self, width: int, mlp_ratio: float, layers: int) -> None:
        hidden = int(width * mlp_ratio)
        super().__init__(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        for index, std in ((1, (2 * width) ** -0.5), (3, width**-0.5 * (2 * layers) ** -0.5)):  # as in open_clip
            layer = self[index]
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)


class Block(nn.Module):
    """Self-attention; with `crosses` attention to a memory; one feed-forward, or one for each name in `experts`."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        layers: int,
        crosses: bool = False,
        experts: tuple[str, ...] = ("all",),
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width) if crosses else None
        self.cross = Attention(width, heads) if crosses else None
        self.experts = nn.ModuleDict({name: Expert(width, mlp_ratio, layers) for name in experts})
        scale = (2 * layers) ** -0.5  # residual branches start small in deep stacks (open_clip, GPT-2)
        with torch.no_grad():
            for attention in (self.attention, self.cross):
                if attention is not None:
                    attention.out.weight.mul_(scale)

    def forward(
        self,
        x_BLW: Tensor,
        allowed: Tensor,
        memory_BKW: Tensor | None = None,
        memory_allowed: Tensor | None = None,
        parts: dict[str, slice] | None = None,
    ) -> Tensor:
        """(B, L, W). allowed, memory_allowed: bool masks of keys as in `Attention`. parts: which tokens go to which
        expert; all to the only one if there is one."""
        normed = self.norm(x_BLW)
        x_BLW = x_BLW + self.attention(normed, normed, allowed)
        if self.cross is not None and self.cross_norm is not None and memory_BKW is not None:
            assert memory_allowed is not None
            x_BLW = x_BLW + self.cross(self.cross_norm(x_BLW), memory_BKW, memory_allowed)
        return x_BLW + self._feed_forward(x_BLW, parts)

    def _feed_forward(self, x_BLW: Tensor, parts: dict[str, slice] | None) -> Tensor:
        if parts is None:
            parts = {next(iter(self.experts)): slice(None)}
        made = [self.experts[name](x_BLW[:, part]) for name, part in parts.items()]
        return torch.cat(made, dim=1) if len(made) > 1 else made[0]


def causal(num_tokens: int, device: torch.device) -> Tensor:
    """bool (L, L): token q may see token k if k is not later."""
    return torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=device).tril()
