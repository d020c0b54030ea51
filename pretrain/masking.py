"""Which tokens are hidden from a model that has to guess them. Shape suffixes: B rows, L tokens.

BERT's scheme (arXiv:1810.04805, section 3.1): of the chosen tokens 80% become the mask token, 10% another token, 10%
stay. Choices are hashes of (row's key, salt, place), so they do not depend on the number of workers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pretrain.draws import uniform
from pretrain.embeddings.base import Vocabulary

_TO_MASK, _TO_OTHER = 0.8, 0.1
_WHICH, _HOW, _OTHER = 1, 2, 3


def choose(candidates_BL: Tensor, rate: float, key_B: Tensor, salt: int) -> Tensor:
    """bool (B, L): of each row's n candidates round(rate x n), but at least 1 where there are any; none at rate 0."""
    number_B = candidates_BL.sum(dim=1)
    wanted_B = (number_B * rate).round().long().clamp(min=1 if rate > 0 else 0).minimum(number_B)
    place_L = torch.arange(candidates_BL.shape[1], device=candidates_BL.device)
    draw_BL = uniform(key_B[:, None], salt, _WHICH, place_L[None, :]).masked_fill(~candidates_BL, 2.0)
    rank_BL = draw_BL.argsort(dim=1, stable=True).argsort(dim=1)
    return (rank_BL < wanted_B[:, None]) & candidates_BL


def mask_ids(ids_BL: Tensor, vocabulary: Vocabulary, rate: float, key_B: Tensor, salt: int) -> tuple[Tensor, Tensor]:
    """(token numbers with some replaced, bool (B, L): which are to be guessed). Pad, start and end are left alone."""
    chosen_BL = choose(vocabulary.ordinary(ids_BL), rate, key_B, salt)
    place_1L = torch.arange(ids_BL.shape[1], device=ids_BL.device)[None, :]
    how_BL = uniform(key_B[:, None], salt, _HOW, place_1L)
    other_BL = (uniform(key_B[:, None], salt, _OTHER, place_1L) * vocabulary.size).long()
    allowed_BL = vocabulary.ordinary(other_BL)  # a special token would not be another word: then mask instead
    to_other_BL = chosen_BL & (how_BL >= _TO_MASK) & (how_BL < _TO_MASK + _TO_OTHER) & allowed_BL
    to_mask_BL = chosen_BL & ((how_BL < _TO_MASK) | ((how_BL < _TO_MASK + _TO_OTHER) & ~allowed_BL))
    replaced_BL = torch.where(to_other_BL, other_BL, ids_BL)
    return replaced_BL.masked_fill(to_mask_BL, vocabulary.mask), chosen_BL
