"""Log-mel frames of sounds on disk, keyed by the settings that they were made with, for runs that hear sounds again.

A sound costs its decoding (8 ms a word in the guarded child) and its spectrum; a run of many epochs, a second seed or
another target on the same version need neither. What is read is what was written, bit for bit, so a run with the cache
is a run without it. Files lie in the store's cache and can be deleted at any time; a damaged one is made again.
Shape suffixes: S samples, T frames, M mel bands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from curation import array_file
from curation.step import digest
from pretrain.embeddings.audio import LogMel

LAYOUT = 1
"""Changes whenever the frames of the same sound at the same settings would."""
_FRAMES = "mel_TM"


class MelCache:
    """Frames of windows of sounds, made by `embedding` where they are not there. Can be pickled into loader processes.

    Two processes that make the same frames publish the same bytes, and the first wins.
    """

    def __init__(self, folder: Path, embedding: LogMel) -> None:
        self._embedding = embedding
        self.settings = settings_of(embedding)
        self.folder = folder / f"log-mel-{digest('log mel', LAYOUT, self.settings)[:12]}"
        self.hits = self.misses = 0

    def frames(
        self, data: bytes, window_s: tuple[float, float], samples: Callable[[], np.ndarray | None]
    ) -> np.ndarray | None:
        """float32 (T, M), normalised as `LogMel.log_mel` does, of a window of the encoded sound `data`.

        samples: decodes the window to float32 (S,); None where it does not decode, which is not kept. To be read only.
        """
        path = self._path(data, window_s)
        found = self._read(path)
        if found is not None:
            self.hits += 1
            return found
        self.misses += 1
        decoded = samples()
        if decoded is None:
            return None
        made = self._embedding.frames_of(decoded)
        array_file.save(path, {_FRAMES: made}, durable=False)
        return made

    def _path(self, data: bytes, window_s: tuple[float, float]) -> Path:
        name = hashlib.blake2b(data, digest_size=20, person=b"tamis.mel")
        name.update(f"{window_s[0]:.6f} {window_s[1]:.6f}".encode())
        hexadecimal = name.hexdigest()
        return self.folder / hexadecimal[:2] / f"{hexadecimal}.arrays"

    def _read(self, path: Path) -> np.ndarray | None:
        try:
            return array_file.load(path)[_FRAMES]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError):  # damaged
            with suppress(FileNotFoundError):
                path.unlink()
            return None


def settings_of(embedding: LogMel) -> dict[str, float]:
    """All that the frames of a sound depend on."""
    names = ("sample_rate_hz", "window_samples", "hop_samples", "num_mels", "max_seconds")
    return {name: getattr(embedding, name) for name in names}
