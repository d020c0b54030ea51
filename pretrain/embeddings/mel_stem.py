"""Sound as some tokens a second: a stack of strided convolutions over log-mel frames.

Shape suffixes: B rows, T frames, M mel bands, L tokens, W width.
"""

from __future__ import annotations

import itertools

import torch
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.audio import LogMel
from pretrain.embeddings.base import Tokens
from pretrain.embeddings.positions import Position, position_module

_KERNEL = 5


class MelStem(LogMel):
    """Log-mel frames through `stages` convolutions of stride 2: a token every 10 ms x 2^stages, which sees several
    times as much. With a mean over them it is a bag of sounds of a word, as n-grams are one of its letters: on some
    thousand words that learns far faster than attention does.

    Raw input as for `LogMel`. Each row's own mean of each band is taken off (cepstral mean subtraction, Atal 1974), so
    that a microphone and the pitch of a voice count for less. Layer norm at each token: no row depends on its batch,
    nor on how far it is padded.
    """

    num_mels: int = Field(64, ge=1)
    stages: int = Field(4, ge=1, le=8)
    position: Position = "none"

    def build(self, image_size: int) -> nn.Module:  # noqa: ARG002
        return Stem(self)


class Stem(nn.Module):
    """The module of `MelStem`."""

    def __init__(self, config: MelStem) -> None:
        super().__init__()
        widths = [config.num_mels, *[config.width] * config.stages]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, _KERNEL, stride=2, padding=_KERNEL // 2)
            for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.stages))
        self.position = position_module(config.position, (config.max_frames() >> config.stages) + 1, config.width)

    def forward(self, mel_BTM: Tensor, frames_B: Tensor) -> Tokens:
        there_BT1 = _there(mel_BTM.shape[1], frames_B)
        mean_B1M = (mel_BTM * there_BT1).sum(dim=1, keepdim=True) / frames_B[:, None, None]
        x_BLW, length_B = (mel_BTM - mean_B1M) * there_BT1, frames_B
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x_BLW = nn.functional.gelu(norm(convolution(x_BLW.transpose(1, 2)).transpose(1, 2)))
            length_B = (length_B + 1) // 2
            x_BLW = x_BLW * _there(x_BLW.shape[1], length_B)  # nothing leaks from behind the end
        place_L = torch.arange(x_BLW.shape[1], device=x_BLW.device)
        return Tokens(self.position(x_BLW), place_L[None, :] < length_B[:, None])


def _there(num: int, length_B: Tensor) -> Tensor:
    """bool (B, num, 1): places before each row's end."""
    return (torch.arange(num, device=length_B.device)[None, :] < length_B[:, None])[..., None]
