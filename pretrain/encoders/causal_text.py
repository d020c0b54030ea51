"""Text towers that read from left to right, run no farther than the longest text of a batch.

What stands behind the end of a text cannot reach its vector there, so leaving it out changes nothing but the time:
captions have some 15 tokens, the towers room for 77. Shape suffixes: B batch, L tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_ENDS = ("argmax", "eos")
"""open_clip's names for: the vector at the end-of-text token (the highest token there is; or the one named)."""


class CausalText:
    """The text tower of an open_clip model (`CLIP` itself, or the `text` of a `CustomTextCLIP`)."""

    def __init__(self, tower: Any, pool: str, end_id: int | None) -> None:
        self._tower, self._pool, self._end_id = tower, pool, end_id

    @classmethod
    def of(cls, clip: Any) -> CausalText | None:
        """None where a text's vector depends on what stands behind it: no causal mask, or pooled elsewhere."""
        tower = clip if hasattr(clip, "token_embedding") else getattr(clip, "text", None)
        pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
        end_id = getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))
        parts = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
        if pool not in _ENDS or (pool == "eos" and end_id is None) or not all(hasattr(tower, part) for part in parts):
            return None
        is_causal = getattr(tower, "attn_mask", None) is not None
        has_more = getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False)
        return cls(tower, pool, end_id) if is_causal and not has_more else None

    def lengths(self, text_BL: Tensor) -> Tensor:
        """(B,) tokens up to the end-of-text token, it included."""
        return self._ends(text_BL) + 1

    def _ends(self, text_BL: Tensor) -> Tensor:
        marked_BL = text_BL if self._pool == "argmax" else torch.eq(text_BL, self._end_id or 0).int()
        return marked_BL.argmax(dim=-1)

    def __call__(self, text_BL: Tensor) -> Tensor:
        """What open_clip's `encode_text` gives, for tokens cut behind the longest text."""
        tower, num_tokens = self._tower, text_BL.shape[1]
        kind = tower.transformer.get_cast_dtype()
        x_BLW = tower.token_embedding(text_BL).to(kind) + tower.positional_embedding[:num_tokens].to(kind)
        x_BLW = tower.transformer(x_BLW, attn_mask=tower.attn_mask[:num_tokens, :num_tokens])
        x_BLW = tower.ln_final(x_BLW)
        x_BW = x_BLW[torch.arange(len(x_BLW), device=x_BLW.device), self._ends(text_BL)]
        projection = tower.text_projection
        if projection is None:
            return x_BW  # type: ignore[no-any-return]
        projected: Tensor = projection(x_BW) if isinstance(projection, torch.nn.Linear) else x_BW @ projection
        return projected
