"""Contrastive batches larger than memory: the towers see a piece at a time, the loss sees the whole batch.

Three passes: vectors of all pieces without gradients; the loss of all vectors and its gradient with respect to them;
each piece once more, with that gradient sent back through it. The result is the gradient of the one-batch loss, not an
approximation (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
arXiv:2101.06983, section 3). Costs one more forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.embeddings.base import Tokens
from pretrain.objective import Batch, Objective
from pretrain.targets.base import Encoded
from pretrain.targets.gather import is_spread, world


def backward_in_pieces(
    objective: Objective, pieces: list[Batch], before_piece: Callable[[int], None] = lambda _: None
) -> dict[str, Tensor]:
    """Losses of the whole batch; the gradients of this worker's mean over all workers stand in the parameters.

    before_piece: called with the number of a piece before each of its two encodings: sets the random generators, so
    that both drop the same units out.
    """
    with torch.no_grad():
        found = []
        for number, piece in enumerate(pieces):
            before_piece(number)
            found.append(objective.encode(piece))
        whole = joined(found)
    for tensor in _outputs(whole).values():
        tensor.requires_grad_()
    losses = objective.losses(whole)
    _backward(losses["loss"])
    gradients = {name: tensor.grad for name, tensor in _outputs(whole).items()}
    first: int = 0
    for number, piece in enumerate(pieces):
        before_piece(number)
        outputs = _outputs(objective.encode(piece))
        rows = slice(first, first + len(piece.group_B))
        first = rows.stop
        surrogate = torch.zeros((), device=piece.group_B.device)
        for name, made in outputs.items():
            gradient = gradients[name]
            if gradient is None or not made.requires_grad:
                continue
            wanted = gradient[rows]
            if wanted.dim() == 3:  # of the tokens that the whole batch was padded with, there are none here
                wanted = wanted[:, : made.shape[1]]
            surrogate = surrogate + (made * wanted).sum()
        if surrogate.requires_grad:
            _backward(surrogate)
    average_gradients(objective)
    return losses


def average_gradients(module: nn.Module) -> None:
    """Replace each gradient by its mean over all workers, as DistributedDataParallel does; FSDP2 has done so with those
    of parameters that are spread over the workers."""
    if world()[1] == 1:
        return
    for parameter in module.parameters():
        if parameter.requires_grad and not is_spread(parameter):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= world()[1]


def joined(pieces: list[Encoded]) -> Encoded:
    """The rows of all pieces, end to end. Tokens are padded to the longest, presence filled up with True."""
    first = pieces[0]
    present = {}
    for name in sorted({name for piece in pieces for name in piece.present}):
        present[name] = torch.cat(
            [piece.present.get(name, torch.ones_like(piece.group_B, dtype=torch.bool)) for piece in pieces]
        )
    return Encoded(
        {name: torch.cat([piece.vectors[name] for piece in pieces]) for name in first.vectors},
        torch.cat([piece.group_B for piece in pieces]),
        present,
        {name: _join_column([piece.columns[name] for piece in pieces]) for name in first.columns},
        {name: _join_tokens([piece.tokens[name] for piece in pieces]) for name in first.tokens},
        {name: torch.cat([piece.keys[name] for piece in pieces]) for name in first.keys},
    )


def _join_column(parts: list[Tensor]) -> Tensor:
    """Rows of one column; those of tokens (B, L, ...) are filled up with zeros, which is padding, to the longest."""
    if parts[0].ndim < 2 or len({part.shape[1] for part in parts}) == 1:
        return torch.cat(parts)
    longest = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0) * (part.ndim - 2) + (0, longest - part.shape[1])) for part in parts])


def _join_tokens(pieces: list[Tokens]) -> Tokens:
    longest = max(piece.x_BLW.shape[1] for piece in pieces)
    x_BLW, masks = [], []
    for piece in pieces:
        missing = longest - piece.x_BLW.shape[1]
        x_BLW.append(F.pad(piece.x_BLW, (0, 0, 0, missing)))
        mask_BL = piece.mask_BL
        if mask_BL is None:
            mask_BL = torch.ones(piece.x_BLW.shape[:2], dtype=torch.bool, device=piece.x_BLW.device)
        masks.append(F.pad(mask_BL, (0, missing)))
    mask = torch.cat(masks)
    return Tokens(torch.cat(x_BLW), None if bool(mask.all()) else mask)


def _backward(loss: Any) -> None:
    loss.backward()


def _outputs(encoded: Encoded) -> dict[str, Tensor]:
    """All tensors that gradients flow into."""
    return {
        **{f"vector {name}": value for name, value in encoded.vectors.items()},
        **{f"tokens {name}": tokens.x_BLW for name, tokens in encoded.tokens.items()},
    }
