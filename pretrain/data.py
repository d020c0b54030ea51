"""What a training step sees: a global order of samples, and of each sample its picture and some of its texts.

Order, texts and augmentation depend on (version digest, seed, epoch, sample) only, so any number of workers sees the
same global batches, and the reader's state is one number: how many samples were seen, that is (epoch, position).
Shape suffixes: G rows of the global batch, B of this worker's share, S side, C channels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.config import TrainConfig
from pretrain.keyed import U64, key
from pretrain.order import Mixture
from pretrain.pictures import Fit, Resample
from pretrain.source import Source
from pretrain.streamed import PictureReader, windows

_WHITE = 255
Squares = np.memmap[Any, Any]
_THREADS_FROM = 32
"""Pictures of a batch from which threads share the decoding where there are no worker processes."""


@dataclass
class RawBatch:
    """One worker's share of a global batch before tokens and normalising: what crosses from a loader's process.

    pixels_BSSC: uint8; has_image_B: False where the picture does not decode (and is white). rows_B, sources_B: the
    version's row of each sample and which dataset it is of. texts: of each sample `captions_per_image`, end to end;
    text_rows: their places in their version. samples_digest: sum of (sample, epoch) hashes, modulo 2^64.
    """

    pixels_BSSC: Tensor
    has_image_B: Tensor
    hashes_B: U64
    epochs_B: np.ndarray
    sources_B: np.ndarray
    rows_B: np.ndarray
    texts: list[str]
    text_rows: np.ndarray
    samples_digest: int


@dataclass(frozen=True)
class Shape:
    """Which squares the model wants."""

    size: int
    fit: Fit
    resample: Resample


class Reader:
    """Global batches of a run's datasets, cut evenly among workers. Can be pickled into loader processes.

    pixels: for each source a memory map of the squares of its whole version (N, S, S, C), or None where
    pictures are streamed.
    """

    def __init__(
        self,
        sources: list[Source],
        config: TrainConfig,
        shape: Shape,
        pixels: list[Squares | None] | None = None,
    ) -> None:
        self.sources, self.config, self.shape = sources, config, shape
        self._pixels = pixels or [None] * len(sources)
        shares = (config.main_share(), *(each.share for each in config.mixture))
        digests = [source.rows.version.digest for source in sources]
        self._mixture = Mixture(shares, key("mixture", config.seed, *digests))
        self._pictures = PictureReader(shape.size, shape.fit, shape.resample)
        self._threads: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be copied whole: the other process opens the file itself.
        places = [None if each is None else (str(each.filename), each.shape) for each in self._pixels]
        return {**self.__dict__, "_threads": None, "_pixels": places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        places = state["_pixels"]
        self._pixels = [None if each is None else np.memmap(each[0], np.uint8, "r", shape=each[1]) for each in places]

    @property
    def augments_geometry(self) -> bool:
        """Whether random windows are already cut while decoding."""
        return self._pictures.crops and all(each is None for each in self._pixels)

    def positions(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(source, epoch, row of its version) of each row of the global batch of `step` (0, 1, ...).

        Epochs of a source follow each other without a gap, whatever the batch size.
        """
        seen_G = step * self.config.batch_size + np.arange(self.config.batch_size)
        source_G, own_G = self._mixture.at(seen_G)
        epoch_G, row_G = np.empty_like(own_G), np.empty_like(own_G)
        for number, source in enumerate(self.sources):
            chosen = source_G == number
            epoch_G[chosen], row_G[chosen] = source.at(own_G[chosen])
        return source_G, epoch_G, row_G

    def raw(self, step: int, rank: int = 0, num_workers: int = 1) -> RawBatch:
        """Worker `rank`'s share of the global batch of `step`."""
        share = self.config.batch_size // num_workers
        mine = slice(rank * share, (rank + 1) * share)
        source_B, epoch_B, row_B = (each[mine] for each in self.positions(step))
        uids, text_rows, texts = [], [], []
        for number, epoch, row in zip(source_B.tolist(), epoch_B.tolist(), row_B.tolist(), strict=True):
            source = self.sources[number]
            uids.append(source.rows.uid(row))
            drawn = source.draw_texts(epoch, row, uids[-1])
            text_rows += drawn
            texts += [source.rows.text(each) for each in drawn]
        hashes_B = np.array([key(uid) for uid in uids], dtype=np.uint64)
        pixels_BSSC, has_image_B = self._squares(source_B, row_B, hashes_B, epoch_B)
        seen = sum(int(key(uid, epoch)) for uid, epoch in zip(uids, epoch_B.tolist(), strict=True))
        return RawBatch(
            torch.from_numpy(pixels_BSSC), torch.from_numpy(has_image_B), hashes_B, epoch_B, source_B, row_B,
            texts, np.array(text_rows, dtype=np.int64), seen % (1 << 64),
        )  # fmt: skip

    def _squares(
        self, source_B: np.ndarray, row_B: np.ndarray, hashes_B: U64, epoch_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        side = self.shape.size
        pixels_BSSC = np.empty((len(row_B), side, side, 3), dtype=np.uint8)
        has_image_B = np.ones(len(row_B), dtype=bool)
        draws_B = windows(hashes_B, epoch_B, self.config.seed) if self.config.augment else None

        def place(index: int) -> None:
            number, row = int(source_B[index]), int(row_B[index])
            cache = self._pixels[number]
            if cache is not None:
                pixels_BSSC[index] = cache[row]
                return
            data = self.sources[number].rows.image(row)
            made = self._pictures.read(data, None if draws_B is None else draws_B[index])
            has_image_B[index] = made is not None
            pixels_BSSC[index] = _WHITE if made is None else made

        threads = self._thread_pool()
        if threads is None:
            for index in range(len(row_B)):
                place(index)
        else:
            list(threads.map(place, range(len(row_B))))
        return pixels_BSSC, has_image_B

    def _thread_pool(self) -> ThreadPoolExecutor | None:
        """Threads for decoding in the training process itself (the codecs let go of the GIL)."""
        wanted = all(each is None for each in self._pixels) and not self.config.loader_workers
        if not wanted or self.config.batch_size < _THREADS_FROM:
            return None
        if self._threads is None:
            self._threads = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="decode")
        return self._threads
