"""What a training step sees: a global order of samples, and of each sample its media and some of its texts.

Order, texts and augmentation depend on (version digest, seed, epoch, sample) only, so any number of workers sees the
same global batches, and the reader's state is one number: how many samples were seen, that is (epoch, position).
Shape suffixes: G rows of the global batch, B of this worker's share, T frames, S side, C channels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretrain.config import TrainConfig
from pretrain.embeddings.base import OF_TEXTS, Film, Sound
from pretrain.keyed import U64, key
from pretrain.mel_cache import MelCache
from pretrain.order import Mixture
from pretrain.pictures import WHITE, Fit, Resample
from pretrain.segments import SegmentReader, frame_draws, frame_times, sound_draws, sound_window
from pretrain.source import Source
from pretrain.streamed import PictureReader, windows
from pretrain.views import StoredViews, view_draws

Squares = np.memmap[Any, Any]
_THREADS_FROM = 32
"""Samples of a batch from which threads share the decoding where there are no worker processes."""
IMAGE_AND_TEXT = frozenset({"image", "text"})


@dataclass
class RawBatch:
    """One worker's share of a global batch before tokens and normalising: what crosses from a loader's process.

    has: for each source that the model reads, bool (B,): False where the sample lacks it, or it does not decode.
    num_damaged: of each medium, those that do not decode. rows_B, sources_B: the version's row of each sample and which
    dataset it is of. texts: of each sample `captions_per_image`, end to end, "" where it has none; text_rows: their
    places in their version, -1 there. said: for each source `texts.NAME`, what is said of each text, "" where nothing
    is. views_B: which of a teacher's views is shown. samples_digest: sum of (sample, epoch) hashes, modulo 2^64.
    pixels_BSSC: uint8, white where there is no picture. sounds: float32 samples of each row, none where there is no
    sound; frames (T, M) of log-mel where these are kept. frames_BTSSC: uint8, black where there is no film; times_BT:
    seconds at which they were taken.
    """

    hashes_B: U64
    epochs_B: np.ndarray
    sources_B: np.ndarray
    rows_B: np.ndarray
    texts: list[str]
    text_rows: np.ndarray
    samples_digest: int
    has: dict[str, Tensor]
    num_damaged: dict[str, int]
    pixels_BSSC: Tensor | None = None
    views_B: np.ndarray | None = None
    said: dict[str, list[str]] = field(default_factory=dict)
    sounds: list[np.ndarray] | None = None
    frames_BTSSC: Tensor | None = None
    times_BT: Tensor | None = None


@dataclass(frozen=True)
class Shape:
    """Which squares the model wants, and which of what a sample has: `spans` of its sound and film."""

    size: int
    fit: Fit
    resample: Resample
    sources: frozenset[str] = IMAGE_AND_TEXT
    sound: Sound | None = None
    film: Film | None = None


class Reader:
    """Global batches of a run's datasets, cut evenly among workers. Can be pickled into loader processes.

    pixels: for each source a memory map of the squares of its whole version (N, S, S, C), or None where
    pictures are streamed; is_whole: which of them decoded. mels: log-mel frames that are kept on disk. views: of
    each source, where teachers' views are shown.
    """

    def __init__(
        self,
        sources: list[Source],
        config: TrainConfig,
        shape: Shape,
        pixels: list[Squares | None] | None = None,
        is_whole: list[np.ndarray | None] | None = None,
        mels: MelCache | None = None,
        views: list[StoredViews] | None = None,
    ) -> None:
        self._mels, self._views = mels, views
        self.sources, self.config, self.shape = sources, config, shape
        self._pixels = pixels or [None] * len(sources)
        self._is_whole = is_whole or [None] * len(sources)
        shares = (config.main_share(), *(each.share for each in config.mixture))
        digests = [source.rows.version.digest for source in sources]
        self._mixture = Mixture(shares, key("mixture", config.seed, *digests))
        self._pictures = PictureReader(shape.size, shape.fit, shape.resample)
        self._segments = SegmentReader(shape.size, shape.fit, shape.resample)
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
    def captions(self) -> int:
        """Texts of each sample of a batch; 1 where the model reads none."""
        return self.config.captions_per_image if "text" in self.shape.sources else 1

    def num_views(self) -> np.ndarray:
        """Of each source, the views that a teacher saw of a picture; 0 where none are shown."""
        return np.array([each.num_views for each in self._views] if self._views else [0] * len(self.sources))

    @property
    def augments_geometry(self) -> bool:
        """Whether random windows of pictures are already cut while decoding."""
        return self._pictures.crops and all(each is None for each in self._pixels)

    @property
    def augments_frames(self) -> bool:
        """Whether random windows of films are already cut while decoding."""
        return self._segments.crops

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
        uids: list[str] = []
        text_rows: list[int] = []
        texts: list[str] = []
        for number, epoch, row in zip(source_B.tolist(), epoch_B.tolist(), row_B.tolist(), strict=True):
            source = self.sources[number]
            uids.append(source.rows.uid(row))
            if "text" in self.shape.sources:
                drawn = source.draw_texts(epoch, row, uids[-1])
                text_rows += drawn or (-1,) * self.captions
                texts += [source.rows.text(each) for each in drawn] or [""] * self.captions
        hashes_B = np.array([key(uid) for uid in uids], dtype=np.uint64)
        seen = sum(int(key(uid, epoch)) for uid, epoch in zip(uids, epoch_B.tolist(), strict=True))
        batch = RawBatch(
            hashes_B, epoch_B, source_B, row_B, texts, np.array(text_rows, dtype=np.int64), seen % (1 << 64), {}, {}
        )
        if "text" in self.shape.sources:
            batch.has["text"] = torch.from_numpy(batch.text_rows[:: self.captions] >= 0)
        for name in sorted(name for name in self.shape.sources if name.startswith(OF_TEXTS)):
            self._add_said(batch, name, uids)
        if "image" in self.shape.sources:
            self._add_pictures(batch)
        if self.shape.sound is not None:
            self._add_sounds(batch, self.shape.sound)
        if self.shape.film is not None:
            self._add_films(batch, self.shape.film)
        return batch

    def _add_said(self, batch: RawBatch, name: str, uids: list[str]) -> None:
        rows = zip(np.arange(len(batch.text_rows)) // self.captions, batch.text_rows.tolist(), strict=True)
        batch.said[name] = [
            self.sources[batch.sources_B[at]].draw_said(
                int(batch.epochs_B[at]), text_row, name.removeprefix(OF_TEXTS), uids[at]
            )
            for at, text_row in rows
        ]

    def _add_pictures(self, batch: RawBatch) -> None:
        side = self.shape.size
        pixels_BSSC = np.empty((len(batch.rows_B), side, side, 3), dtype=np.uint8)
        draws_B = windows(batch.hashes_B, batch.epochs_B, self.config.seed) if self.config.augment else None
        if self._views is not None:
            counts_B = self.num_views()[batch.sources_B]
            batch.views_B = (view_draws(batch.hashes_B, batch.epochs_B, self.config.seed) * counts_B).astype(np.int64)

        def place(index: int, number: int, row: int) -> bool | None:
            cache, whole = self._pixels[number], self._is_whole[number]
            if cache is not None:
                pixels_BSSC[index] = cache[row]
                return True if whole is None or whole[row] else None
            data = self.sources[number].rows.image(row)
            if not data:
                made = None
            elif self._views is not None and batch.views_B is not None:
                made = self._pictures.view(data, self._views[number].of(row, int(batch.views_B[index])))
            else:
                made = self._pictures.read(data, None if draws_B is None else draws_B[index])
            pixels_BSSC[index] = WHITE if made is None else made
            return None if not data else made is not None

        self._for_each(batch, "image", place, decodes=all(each is None for each in self._pixels))
        batch.pixels_BSSC = torch.from_numpy(pixels_BSSC)

    def _add_sounds(self, batch: RawBatch, wanted: Sound) -> None:
        sounds = [np.zeros(0, dtype=np.float32)] * len(batch.rows_B)
        draws_B = sound_draws(batch.hashes_B, batch.epochs_B, self.config.seed)
        longer = self.config.longer_sounds
        if longer == "random" and not self.config.augment:
            longer = "middle"

        def place(index: int, number: int, row: int) -> bool | None:
            rows = self.sources[number].rows
            data, is_told = rows.sound(row)
            if not data:
                return None
            duration_s = rows.duration_s(row) or self._segments.duration_s(data)
            if duration_s is None:
                return False if is_told else None
            window = sound_window(duration_s, wanted.max_s, longer, float(draws_B[index]))
            if window is None:
                return None  # it is whole, but not wanted

            def decoded() -> np.ndarray | None:
                found = self._segments.sound(data, wanted, window)
                if found is None and window[0] > 0:  # the sound ends long before the film
                    found = self._segments.sound(data, wanted, (0.0, wanted.max_s))
                return found

            is_drawn = longer == "random" and duration_s > wanted.max_s  # another window every time
            made = decoded() if self._mels is None or is_drawn else self._mels.frames(data, window, decoded)
            if made is not None:
                sounds[index] = made
            return made is not None or (False if is_told else None)  # a film that may never have had a sound

        self._for_each(batch, "audio", place)
        batch.sounds = sounds

    def _add_films(self, batch: RawBatch, wanted: Film) -> None:
        side, num = self.shape.size, wanted.num_frames
        frames_BTSSC = np.zeros((len(batch.rows_B), num, side, side, 3), dtype=np.uint8)
        times_BT = np.zeros((len(batch.rows_B), num), dtype=np.float32)
        draws_BT = windows_B = None
        if self.config.augment:
            draws_BT = frame_draws(batch.hashes_B, batch.epochs_B, self.config.seed, num)
            windows_B = windows(batch.hashes_B, batch.epochs_B, self.config.seed)

        def place(index: int, number: int, row: int) -> bool | None:
            rows = self.sources[number].rows
            data = rows.medium(row, "video")
            if not data:
                return None
            duration_s = rows.duration_s(row) or self._segments.duration_s(data)
            if duration_s is None:
                return False
            times_T = frame_times(duration_s, None if draws_BT is None else draws_BT[index], num)
            made = self._segments.frames(data, times_T, None if windows_B is None else windows_B[index])
            if made is not None:
                frames_BTSSC[index], times_BT[index] = made.pixels_TSSC, made.times_s
            return made is not None

        self._for_each(batch, "video", place)
        batch.frames_BTSSC, batch.times_BT = torch.from_numpy(frames_BTSSC), torch.from_numpy(times_BT)

    def _for_each(self, batch: RawBatch, name: str, place: Any, decodes: bool = True) -> None:
        """Call `place(index, source, row)` for each sample: True where the medium is there, None where the sample has
        none, False where it does not decode."""
        jobs = list(zip(range(len(batch.rows_B)), batch.sources_B.tolist(), batch.rows_B.tolist(), strict=True))
        threads = self._thread_pool() if decodes else None
        if threads is None:
            found = [place(*job) for job in jobs]
        else:
            found = list(threads.map(lambda job: place(*job), jobs))
        batch.has[name] = torch.tensor([each is True for each in found], dtype=torch.bool)
        batch.num_damaged[name] = sum(each is False for each in found)

    def _thread_pool(self) -> ThreadPoolExecutor | None:
        """Threads for decoding in the training process itself (the codecs let go of the GIL)."""
        if self.config.loader_workers or self.config.batch_size < _THREADS_FROM:
            return None
        if self._threads is None:
            self._threads = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="decode")
        return self._threads
