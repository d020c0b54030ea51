"""Views of pictures that teachers saw, shown to the student again: distillation without a teacher.

Source: DataCompDR, arXiv:2311.17049, section 3: image augmentations are stored and repeated with their embeddings.

Shape suffixes: N rows of a version, B of a batch, K views of a picture, P parameters of a view.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from curation.augmentations import PARAMETERS
from curation.step import digest
from curation.table import publishing
from pretrain.columns import Column, read_column
from pretrain.config import ConfigError, Views
from pretrain.keyed import U64, key, uniform
from pretrain.segments import own_keys
from pretrain.version import Version

_WHOLE = np.array([0, 0, 1, 1, 1, 1, 1], np.float32)


class StoredViews:
    """The parameters of a version's views, on disk; can be pickled into loader processes."""

    def __init__(self, path: Path, num_rows: int, num_views: int) -> None:
        self._path, self._shape = path, (num_rows, num_views, len(PARAMETERS))
        self._open()

    def _open(self) -> None:
        self._values_NKP = np.memmap(self._path, np.float32, "r", shape=self._shape)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_values_NKP"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def num_views(self) -> int:
        """Of each picture."""
        return self._shape[1]

    def of(self, row: int, view: int) -> np.ndarray:
        """(P,) float32 of one view; of a picture without any, the whole of it."""
        found = np.array(self._values_NKP[row, view])
        return found if found[2] > found[0] else _WHOLE


def stored_views(folder: Path, version: Version, wanted: Views) -> StoredViews:
    """Those of a version. Raises ConfigError where the columns are not those of `AugmentedImageEmbedding`."""
    parameters = read_column(version, wanted.parameters)
    num_views = views_of(version, wanted, parameters)
    path = folder / f"{version.name}-{digest(version.digest, wanted.parameters)[:12]}.f32"
    if not path.exists():
        with publishing(path) as temporary:
            parameters.values.astype("<f4").tofile(temporary)
    return StoredViews(path, version.num_samples, num_views)


def views_of(version: Version, wanted: Views, parameters: Column) -> int:
    """How many views of each picture a version holds. Raises ConfigError as `stored_views`."""
    width = parameters.width or 0
    if width == 0 or width % len(PARAMETERS):
        raise ConfigError(
            f"views.parameters: {wanted.parameters!r} of {version.folder.name} holds no lists of {len(PARAMETERS)} "
            "numbers for each view, as curation.signals.augmented_image_embedding writes them"
        )
    num_views = width // len(PARAMETERS)
    for name in wanted.embeddings:
        own = read_column(version, name).width or 0
        if own == 0 or own % num_views:
            raise ConfigError(
                f"views.embeddings: {name!r} of {version.folder.name} holds lists of {own} numbers, which are no "
                f"vectors of {num_views} views"
            )
    return num_views


def view_draws(samples: U64, epochs: np.ndarray, seed: int) -> np.ndarray:
    """(B,) in [0, 1): which view each sample is shown in an epoch; of its own sample and epoch only."""
    return uniform(own_keys(samples, epochs), key("view", seed))
