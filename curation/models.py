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


def load_scorer(use: str, **fields: Any) -> Scorer:
    """Make the scorer whose class stands at the import path `use` (`package.module.Class` or `package.module:Class`).

    `fields` are passed to it. Curation imports no model code itself: the recipe names it. Raises ValueError where the
    path names nothing that makes a scorer.
    """
    module_name, _, name = use.replace(":", ".").rpartition(".")
    try:
        factory = getattr(importlib.import_module(module_name), name) if module_name else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"use: {use!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise ValueError(f"use: {use!r} is no import path of a scorer, such as package.module.Class")
    scorer = factory(**fields)
    if not isinstance(scorer, Scorer):
        raise ValueError(f"use: {use!r} made a {type(scorer).__name__}, which is no scorer")
    return scorer
