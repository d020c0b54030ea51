"""From raw batches to what a training step takes: fetched ahead, tokens made, uint8 to the device, augmented there."""

from __future__ import annotations

import functools
import multiprocessing
import os
import select
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pretrain.augment import augment, recolour
from pretrain.columns import Column
from pretrain.config import TrainConfig
from pretrain.data import RawBatch, Reader
from pretrain.embeddings.base import OF_TEXTS
from pretrain.inputs import model_inputs, model_presence, model_repeats
from pretrain.keyed import U64
from pretrain.model import Model
from pretrain.objective import Batch
from pretrain.rows import MEDIA

AHEAD = 2
"""Batches that each loader process has ready."""
MAX_RESTARTS = 3
"""Times in a row, without a batch between them, that loader processes are started anew after one of them died, before
the run gives up."""


class LoaderError(RuntimeError):
    """Processes that read and decode die, whatever is tried."""


@dataclass(frozen=True)
class Ready:
    """What one worker trains on in one step: the batch, in pieces of `micro_batch` samples; see `RawBatch`."""

    step: int
    pieces: list[Batch]
    samples_digest: int
    num_damaged: dict[str, int]


class Loader:
    """The batches of one worker, in order. columns: for each source, those of its version that the targets read."""

    def __init__(
        self, reader: Reader, model: Model, columns: list[dict[str, Column]], config: TrainConfig, device: torch.device
    ) -> None:
        self.reader, self._model, self._columns, self._config, self._device = reader, model, columns, config, device

    def batches(self, start: int, stop: int, rank: int = 0, num_workers: int = 1) -> Iterator[Ready]:
        """Those of the steps start..stop-1; the next one is made while one is used."""
        raws = self._raws(start, stop, rank, num_workers)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader") as thread:

            def made() -> Ready | None:
                found = next(raws, None)
                return None if found is None else self.ready(*found)

            waiting = thread.submit(made)
            while (ready := waiting.result()) is not None:
                waiting = thread.submit(made)
                yield ready

    def _raws(self, start: int, stop: int, rank: int, num_workers: int) -> Iterator[tuple[int, RawBatch]]:
        if not self._config.loader_workers:
            for step in range(start, stop):
                yield step, self.reader.raw(step, rank, num_workers)
            return
        restarts = 0
        while start < stop:
            try:
                for raw in _processes(_Steps(self.reader, rank, num_workers), start, stop, self._config.loader_workers):
                    yield start, raw
                    start, restarts = start + 1, 0
            except RuntimeError as error:  # how DataLoader says that one of its processes died
                if "DataLoader worker" not in str(error):
                    raise
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise LoaderError(
                        f"loader processes died {restarts} times in a row before step {start + 1} was read ({error}): "
                        "is there enough memory, and room in /dev/shm? `loader_workers: 0` reads in the worker itself"
                    ) from error

    def ready(self, step: int, raw: RawBatch) -> Ready:
        """Tensors on the device from a raw batch."""
        rows = self._config.micro_batch or len(raw.hashes_B)
        starts = range(0, len(raw.hashes_B), rows)
        pieces = [self._piece(raw, slice(first, first + rows)) for first in starts]
        return Ready(step, pieces, raw.samples_digest, raw.num_damaged)

    def _piece(self, raw: RawBatch, rows: slice) -> Batch:
        captions = self.reader.captions
        of_texts = slice(rows.start * captions, rows.stop * captions)
        hashes_B, epochs_B = raw.hashes_B[rows], raw.epochs_B[rows]
        sample: dict[str, Any] = {"text": raw.texts[of_texts]} if "text" in raw.has else {}
        if raw.pixels_BSSC is not None:
            pixels_BSSC = raw.pixels_BSSC[rows]
            is_cut = None if raw.views_B is not None else self.reader.augments_geometry
            sample["image"] = self._pictures(pixels_BSSC, hashes_B, epochs_B, is_cut)
        if raw.sounds is not None:
            sample["audio"] = raw.sounds[rows]
        if raw.frames_BTSSC is not None and raw.times_BT is not None:
            frames_BTSSC = raw.frames_BTSSC[rows]
            num = frames_BTSSC.shape[1]  # all frames of a film are augmented alike
            each = frames_BTSSC.flatten(0, 1), hashes_B.repeat(num), epochs_B.repeat(num), self.reader.augments_frames
            flat = self._pictures(*each)
            frames_BTCHW = flat.reshape(-1, num, *flat.shape[1:])
            sample["video"] = {"frames": frames_BTCHW, "time_s": raw.times_BT[rows]}
        columns = self._chosen(raw, rows, of_texts)
        present = {name: torch.from_numpy(column.present) for name, column in columns.items()}
        has = {source: has_B[rows].repeat_interleave(captions) for source, has_B in raw.has.items()}
        for name, said in raw.said.items():
            sample[name] = said[of_texts]
            has[name] = torch.tensor([bool(each) for each in sample[name]])
        batch = Batch(
            inputs=model_inputs(self._model, sample),
            repeats=model_repeats(self._model, dict.fromkeys(MEDIA, captions)),
            group_B=torch.from_numpy(np.repeat(hashes_B.view(np.int64), captions)),
            columns={name: torch.from_numpy(column.values) for name, column in columns.items()},
            present={**present, **model_presence(self._model, has)},
        )
        return batch.to(self._device)

    def _pictures(self, pixels_BSSC: Tensor, hashes_B: U64, epochs_B: np.ndarray, is_cut: bool | None) -> Tensor:
        """float32 (B, C, H, W) in 0..1, augmented on the device. is_cut: random windows were cut while decoding; None:
        they are as they are to be seen."""
        image_BCHW = self._moved(pixels_BSSC).permute(0, 3, 1, 2).float().div_(255)
        if not self._config.augment or is_cut is None:
            return image_BCHW
        change = recolour if is_cut else augment
        return change(image_BCHW, hashes_B, self._config.seed, epochs_B)

    def _moved(self, pixels: Tensor) -> Tensor:
        """uint8 on the device: a quarter of the bytes of float32."""
        if self._device.type == "cuda":
            return pixels.pin_memory().to(self._device, non_blocking=True)
        return pixels

    def _chosen(self, raw: RawBatch, rows: slice, of_texts: slice) -> dict[str, Column]:
        """The columns of these samples and texts, each from its own version."""
        captions = self.reader.captions
        sources = np.repeat(raw.sources_B[rows], captions)
        rows_of_samples = np.repeat(raw.rows_B[rows], captions)
        rows_of_texts = raw.text_rows[of_texts]
        found = {}
        for name in self._columns[0]:
            places = rows_of_texts if name.startswith(OF_TEXTS) else rows_of_samples
            parts = [self._columns[number][name].take(places[sources == number]) for number in np.unique(sources)]
            order = np.argsort(np.argsort(sources, kind="stable"), kind="stable")
            values = np.concatenate([part.values for part in parts])[order]
            found[name] = Column(values, np.concatenate([part.present for part in parts])[order])
        if raw.views_B is not None and self._config.views is not None:
            views_R = np.repeat(raw.views_B[rows], captions)
            for name in self._config.views.embeddings:
                found[name] = self._shown(found[name], views_R, sources)
        return found

    def _shown(self, column: Column, views_R: np.ndarray, sources_R: np.ndarray) -> Column:
        """Of vectors of all views, one after the other, that of the view that is shown."""
        num_R = self.reader.num_views()[sources_R]
        dim = (column.width or 0) // int(num_R.max())
        places_RD = views_R[:, None] * dim + np.arange(dim)[None, :]
        return Column(np.take_along_axis(column.values, places_RD, axis=1), column.present)


class _Steps(Dataset[RawBatch]):
    """Steps as items of a data set, each a whole batch: DataLoader then only moves them."""

    def __init__(self, reader: Reader, rank: int, num_workers: int) -> None:
        self._reader, self._rank, self._num_workers = reader, rank, num_workers

    def __getitem__(self, step: int) -> RawBatch:
        return self._reader.raw(step, self._rank, self._num_workers)


def _processes(steps: _Steps, start: int, stop: int, num_processes: int) -> Iterator[RawBatch]:
    """The raw batches in order, made by processes that share no state with this one (fork would copy its threads)."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pretrain.data"])
    loader: Any = DataLoader(
        steps, batch_size=None, sampler=range(start, stop), num_workers=num_processes, prefetch_factor=AHEAD,
        multiprocessing_context=context, worker_init_fn=functools.partial(_end_with, os.getpid()),
    )  # fmt: skip
    yield from loader


def _end_with(owner: int, _: int) -> None:
    """End this loader process when its owner does, even by kill -9: its parent is the fork server, which would live on
    with it. Called in the process when it starts."""
    descriptor = os.pidfd_open(owner)

    def wait() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=wait, name="owner", daemon=True).start()
