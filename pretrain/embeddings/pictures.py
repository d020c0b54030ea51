"""Picture embeddings: pixels as they are, patches, and a convolutional stem.

Shape suffixes: B batch, C channels, H height, W_ width of the picture, L tokens, W width of a token.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.embeddings.base import Embedding, Form, Inputs, Masked, Tokens
from pretrain.masking import choose

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
"""Channel means and deviations of CLIP's training pictures (open_clip.constants)."""


class _Picture(Embedding):
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    def prepare(self, raw: Any) -> Inputs:
        return {"image_BCHW": raw}


class Normalise(nn.Module):
    """Pictures in 0..1 to zero mean and unit deviation, on whatever device they are on."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return (image_BCHW - self.mean) / self.std


class Pixels(_Picture):
    """Normalised pixels, for encoders that are whole towers."""

    gives: ClassVar[Form] = "pixels"

    def width_of(self, image_size: int) -> int:  # noqa: ARG002
        return 3

    def build(self, image_size: int) -> nn.Module:  # noqa: ARG002
        return Normalise(self.mean, self.std)


class Patches(_Picture):
    """Square patches, each projected linearly, with learned positions (ViT, arXiv:2010.11929).

    mask_token: has a learned vector for patches that are hidden, which masked image modelling needs.
    """

    gives: ClassVar[Form] = "tokens"

    width: int = Field(192, ge=1)
    patch_size: int = Field(16, ge=1)
    mask_token: bool = False

    def is_maskable(self) -> bool:
        return self.mask_token

    def patch_width(self) -> int | None:
        return 3 * self.patch_size**2

    def masked(self, inputs: Inputs, rate: float, key_B: Tensor, salt: int) -> Masked:
        if not self.mask_token:
            raise ValueError("Patches without `mask_token: true` has nothing to put where a patch is hidden")
        truth_BLP = patches_of(inputs["image_BCHW"], self.patch_size)
        everywhere = torch.ones(truth_BLP.shape[:2], dtype=torch.bool, device=truth_BLP.device)
        mask_BL = choose(everywhere, rate, key_B, salt)
        return Masked({**inputs, "mask_BL": mask_BL}, mask_BL, truth_BLP)

    def width_of(self, image_size: int) -> int:  # noqa: ARG002
        return self.width

    def num_tokens_of(self, image_size: int) -> int | None:
        return (image_size // self.patch_size) ** 2

    def build(self, image_size: int) -> nn.Module:
        if image_size % self.patch_size:
            raise ValueError(f"image_size {image_size} is no multiple of patch_size {self.patch_size}")
        body = nn.Conv2d(3, self.width, self.patch_size, self.patch_size, bias=False)
        return Grid(self, body, image_size // self.patch_size, self.mask_token)


class ConvStem(_Picture):
    """Stride-2 convolutions, widths doubling, then learned positions: learns far faster than patches on few pictures.

    After "Early convolutions help transformers see better" (Xiao et al. 2021, arXiv:2106.14881), with group norm, so
    that no row depends on its batch. stages: number of halvings of the side; tokens = (image_size / 2^stages)^2.
    """

    gives: ClassVar[Form] = "tokens"

    width: int = Field(192, ge=8)
    stages: int = Field(4, ge=1)

    def width_of(self, image_size: int) -> int:  # noqa: ARG002
        return self.width

    def num_tokens_of(self, image_size: int) -> int | None:
        return int((image_size // 2**self.stages) ** 2)

    def build(self, image_size: int) -> nn.Module:
        scale = 2 ** (self.stages - 1)
        if self.width % (8 * scale):
            raise ValueError(f"width {self.width} must be a multiple of {8 * scale} for {self.stages} stages")
        if image_size % 2**self.stages:
            raise ValueError(f"image_size {image_size} is no multiple of {2**self.stages} ({self.stages} stages)")
        channels = [3, *(self.width // 2 ** (self.stages - 1 - stage) for stage in range(self.stages))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.GELU()]
        return Grid(self, nn.Sequential(*layers), image_size // 2**self.stages)


class Grid(nn.Module):
    """Normalise, a module that gives a (B, W, side, side) map, and learned positions."""

    def __init__(self, config: Patches | ConvStem, body: nn.Module, side: int, has_mask_token: bool = False) -> None:
        super().__init__()
        self.normalise = Normalise(config.mean, config.std)
        self.body = body
        self.position = nn.Parameter(torch.randn(side * side, config.width) * config.width**-0.5)
        if has_mask_token:
            self.mask_token = nn.Parameter(torch.randn(config.width) * config.width**-0.5)

    def forward(self, image_BCHW: Tensor, mask_BL: Tensor | None = None) -> Tokens:
        """mask_BL: places of which only the position is seen."""
        x_BLW = self.body(self.normalise(image_BCHW)).flatten(2).transpose(1, 2)
        if mask_BL is not None:
            x_BLW = torch.where(mask_BL[..., None], self.mask_token.to(x_BLW.dtype), x_BLW)
        return Tokens(x_BLW + self.position)


def patches_of(image_BCHW: Tensor, patch_size: int) -> Tensor:
    """(B, L, C x patch_size^2): the pixels of each square patch, row by row."""
    return F.unfold(image_BCHW, patch_size, stride=patch_size).transpose(1, 2)
