"""Sounds that are longer than a model hears, as several that are not."""

from __future__ import annotations

import numpy as np


def windows_of(sound: np.ndarray, size: int) -> list[np.ndarray]:
    """The sound in windows of `size` samples, the last one up to its end; one window where it is not longer."""
    if len(sound) <= size:
        return [sound]
    starts = [*range(0, len(sound) - size, size), len(sound) - size]
    return [sound[start : start + size] for start in starts]
