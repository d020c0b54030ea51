"""Moving pictures: tubelets, and frames that each go through a picture embedding.

Shape suffixes: B rows, T frames, C channels, H W_ picture, L tokens, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, Field, PlainSerializer
from torch import Tensor, nn

from pretrain.component import parser, to_spec
from pretrain.embeddings.base import Embedding, Film, Form, Inputs, Tokens
from pretrain.embeddings.pictures import OPENAI_MEAN, OPENAI_STD, Normalise


@dataclass
class Frames:
    """What a picture embedding made of all frames, end to end: `Tokens` or pixels with B x T rows.

    seen_BT: which frames there are; time_BT: when each was taken, in seconds from the start (None: not known).
    """

    made: Tokens | Tensor
    seen_BT: Tensor
    time_BT: Tensor | None = None


class Tubelets(Embedding):
    """Boxes of `frames` x `patch_size` x `patch_size` pixels, each projected linearly, with learned positions
    (ViViT, arXiv:2103.15691, section 3.2). Raw input: float32 (B, T, C, H, W_) in 0..1, T a multiple of `frames`; or a
    dict with it as `frames`, of which nothing else is read."""

    gives: ClassVar[Form] = "tokens"

    width: int = Field(192, ge=1)
    patch_size: int = Field(16, ge=1)
    frames: int = Field(2, ge=1)
    num_frames: int = Field(8, ge=1)
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    def width_of(self, image_size: int) -> int:  # noqa: ARG002
        return self.width

    def num_tokens_of(self, image_size: int) -> int | None:
        return int((image_size // self.patch_size) ** 2 * (self.num_frames // self.frames))

    def span(self) -> Film:
        return Film(self.num_frames)

    def prepare(self, raw: Any) -> Inputs:
        return {"video_BTCHW": raw["frames"] if isinstance(raw, dict) else raw}

    def build(self, image_size: int) -> nn.Module:
        if self.num_frames % self.frames or image_size % self.patch_size:
            raise ValueError(
                f"num_frames {self.num_frames} must be a multiple of frames {self.frames}, "
                f"image_size {image_size} of patch_size {self.patch_size}"
            )
        return TubeletProjection(self, self.num_tokens_of(image_size) or 1)


class TubeletProjection(nn.Module):
    """The module of `Tubelets`."""

    def __init__(self, config: Tubelets, num_tokens: int) -> None:
        super().__init__()
        self.normalise = Normalise(config.mean, config.std)
        size = (config.frames, config.patch_size, config.patch_size)
        self.projection = nn.Conv3d(3, config.width, size, size, bias=False)
        self.position = nn.Parameter(torch.randn(num_tokens, config.width) * config.width**-0.5)

    def forward(self, video_BTCHW: Tensor) -> Tokens:
        flat = self.normalise(video_BTCHW.flatten(0, 1)).unflatten(0, video_BTCHW.shape[:2])
        x_BLW = self.projection(flat.transpose(1, 2)).flatten(2).transpose(1, 2)
        if x_BLW.shape[1] != len(self.position):
            raise ValueError(f"{x_BLW.shape[1]} tubelets, positions for {len(self.position)}: check num_frames")
        return Tokens(x_BLW + self.position)


class EachFrame(Embedding):
    """Each frame through a picture embedding, for encoders of frames.

    Raw input: float32 (B, T, C, H, W_) in 0..1, or a dict with it as `frames` and, if known, `seen` bool (B, T) and
    `time_s` (B, T). num_frames: how many a loader samples; it takes any number.
    """

    gives: ClassVar[Form] = "frames"

    frame: Annotated[Embedding, BeforeValidator(parser(Embedding, "pretrain.embeddings")), PlainSerializer(to_spec)]

    num_frames: int = Field(8, ge=1)

    def span(self) -> Film:
        return Film(self.num_frames)

    def width_of(self, image_size: int) -> int:
        return self.frame.width_of(image_size)

    def num_tokens_of(self, image_size: int) -> int | None:
        return self.frame.num_tokens_of(image_size)

    def prepare(self, raw: Any) -> Inputs:
        whole = raw if isinstance(raw, dict) else {"frames": raw}
        frames = whole["frames"]
        seen = whole.get("seen")
        if seen is None:
            seen = torch.ones(frames.shape[:2], dtype=torch.bool)
        found = {"video_BTCHW": frames, "seen_BT": seen}
        return found if whole.get("time_s") is None else {**found, "time_BT": whole["time_s"]}

    def build(self, image_size: int) -> nn.Module:
        if self.frame.gives == "frames":
            raise ValueError("frame: a picture embedding, not one of frames")
        return FrameByFrame(self.frame, image_size)


class FrameByFrame(nn.Module):
    """The module of `EachFrame`."""

    def __init__(self, frame: Embedding, image_size: int) -> None:
        super().__init__()
        self.frame = frame.build(image_size)

    def forward(self, video_BTCHW: Tensor, seen_BT: Tensor, time_BT: Tensor | None = None) -> Frames:
        return Frames(self.frame(image_BCHW=video_BTCHW.flatten(0, 1)), seen_BT, time_BT)
