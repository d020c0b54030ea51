"""Models that put pictures and texts into one space, as signals see them; where one comes from, a recipe says."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Scorer(Protocol):
    """A two-tower model ready for use."""

    @property
    def weights_digest(self) -> str:
        """64 hex digits: of the weights, the architecture and the preprocessing. Part of a signal's key."""

    @property
    def embed_dim(self) -> int:
        """Length D of the vectors."""

    def encode_images(self, images: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors of (H, W, 3) uint8 pictures, and (N,) bool: False, with zeros, where None."""

    def encode_texts(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors of texts, and (N,) bool: False, with zeros, where None."""


@runtime_checkable
class PreparingScorer(Scorer, Protocol):
    """A scorer that says how it wants pictures and can make them so ahead of time, in another thread."""

    @property
    def image_size(self) -> int:
        """Side in pixels of what its image tower sees."""

    def prepare_image(self, image: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
        """(image_size, image_size, 3) uint8, which `encode_images` takes as it is, of (H, W, 3) uint8 pixels, perhaps
        reduced, of a picture of `height_px` x `width_px`. A new array."""


@runtime_checkable
class SoundScorer(Protocol):
    """A model that puts sounds and texts into one space (CLAP)."""

    @property
    def weights_digest(self) -> str:
        """As of `Scorer`."""

    @property
    def embed_dim(self) -> int:
        """Length D of the vectors."""

    def encode_sounds(self, sounds: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors of float32 [n] samples at `SOUND_RATE_HZ`, one channel, -1 to 1, of any length,
        and (N,) bool: False, with zeros, where None. A vector does not depend on the others of the call."""

    def encode_texts(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """As of `Scorer`."""


SOUND_RATE_HZ = 48_000
"""Of CLAP's audio towers (arXiv 2211.06687)."""


def load_scorer(use: str, **fields: Any) -> Scorer:
    """Make the scorer whose class stands at the import path `use` (`package.module.Class` or `package.module:Class`).

    `fields` are passed to it. Curation imports no model code itself: the recipe names it. Raises ValueError where the
    path names nothing that makes a scorer.
    """
    scorer = _made(use, fields)
    if not isinstance(scorer, Scorer):
        raise ValueError(f"use: {use!r} made a {type(scorer).__name__}, which is no scorer")
    return scorer


def load_sound_scorer(use: str, **fields: Any) -> SoundScorer:
    """The same for a model of sounds and texts."""
    scorer = _made(use, fields)
    if not isinstance(scorer, SoundScorer):
        raise ValueError(f"use: {use!r} made a {type(scorer).__name__}, which is no scorer of sounds")
    return scorer


def _made(use: str, fields: dict[str, Any]) -> object:
    module_name, _, name = use.replace(":", ".").rpartition(".")
    try:
        factory = getattr(importlib.import_module(module_name), name) if module_name else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"use: {use!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise ValueError(f"use: {use!r} is no import path of a scorer, such as package.module.Class")
    made: object = factory(**fields)
    return made
