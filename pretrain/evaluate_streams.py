"""Evaluation of models that hear and watch: retrieval between every two of their streams on held-out segments, and
whether films need their order.

Shape suffixes: N samples, B batch, D dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pretrain.config import Clause, ConfigError, TextPolicy, TrainConfig
from pretrain.data import RawBatch
from pretrain.dataset import open_data
from pretrain.embed import TwoTowerScorer
from pretrain.found import Found
from pretrain.loader import Loader
from pretrain.model import Model
from pretrain.stream_suites import MIN_PAIRS, alike, between_streams, shuffled_frames, shuffled_order
from pretrain.suites import HELD_OUT, MAX_PICTURES, SPLIT_COLUMN
from pretrain.version import Version

BATCH = 32
FILM, TEXT = "video", "text"
HELD_OUT_SEGMENTS, ALL_SEGMENTS = "held_out_segments", "all_segments"
"""Name of the suite: of the rows that the split holds out, or of all where the version has no split."""


@dataclass(frozen=True)
class StreamVectors:
    """vectors: stream -> (N, D); present: stream -> bool (N,); texts: (N,) the text of each sample that was drawn, ""
    if none. shuffled_ND: of the films with their frames in another order, None where the model watches none."""

    uids: list[str]
    vectors: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    texts: list[str]
    shuffled_ND: np.ndarray | None


def by_streams(
    scorer: TwoTowerScorer,
    config: TrainConfig,
    version: Version,
    cache: Path,
    progress: Callable[[str], None],
) -> Found:
    """The suites of a model that has streams of sound or film; nothing for one that has not, or without such rows."""
    watched = {"audio", FILM} & set(scorer.model.sources.values())
    if not watched or not watched & set(version.columns()):
        return Found()
    has_split = SPLIT_COLUMN in version.columns()
    where = (Clause.model_validate({"column": SPLIT_COLUMN, "equals": HELD_OUT}),) if has_split else ()
    try:
        made = stream_vectors(scorer, config, version, cache, where)
    except ConfigError as error:
        progress(f"evaluate: no figures between streams: {error}")
        return Found()
    suite = HELD_OUT_SEGMENTS if has_split else ALL_SEGMENTS
    progress(f"evaluate: {suite}: {len(made.uids):,} samples, streams {', '.join(made.vectors)}")
    found = between_streams(suite, made.vectors, made.present, made.uids, made.texts)
    if made.shuffled_ND is not None and TEXT in made.vectors:
        both = np.flatnonzero(made.present[TEXT] & made.present[FILM]).tolist()
        if len(both) >= MIN_PAIRS:
            texts, uids = [made.texts[row] for row in both], [made.uids[row] for row in both]
            sides = (made.vectors[TEXT][both], made.vectors[FILM][both], made.shuffled_ND[both])
            found += shuffled_frames(suite, *sides, alike(texts), texts, uids)
    return found


def stream_vectors(
    scorer: TwoTowerScorer, config: TrainConfig, version: Version, cache: Path, where: tuple[Clause, ...] = ()
) -> StreamVectors:
    """Vectors of the samples that meet the conditions, through the loader of training, not augmented: one text each,
    the middle of sounds that are too long, frames from the middles of equal pieces. At most `MAX_PICTURES` samples.

    Raises ConfigError where no sample has at least two of the streams.
    """
    plain = {
        "where": where, "subset": None, "mixture": (), "exclude_languages": (), "targets": (), "augment": False,
        "texts": TextPolicy.model_validate({}), "longer_sounds": "middle", "captions_per_image": 1, "batch_size": BATCH,
        "micro_batch": None, "num_workers": 1, "loader_workers": 0, "decontamination": "waived", "pictures": "streamed",
        "views": None,
    }  # fmt: skip
    asked = config.model_copy(update=plain)
    model, device = scorer.model, scorer.device
    place = version.place if "://" in version.place else version.folder
    data = open_data(asked, [place], cache, model)
    loader = Loader(data.reader, model, data.columns, asked, device)
    streams = [name for name in model.sources if name in _encoded(model)]
    total = min(len(data.reader.sources[0]), MAX_PICTURES)
    seen: set[int] = set()
    uids: list[str] = []
    texts: list[str] = []
    vectors: dict[str, list[np.ndarray]] = {name: [] for name in streams}
    present: dict[str, list[bool]] = {name: [] for name in streams}
    shuffled: list[np.ndarray] = []
    for step in range(math.ceil(total / BATCH)):  # each sample once in an epoch; the last batch runs into the next one
        raw = data.reader.raw(step)
        new = []
        for at, row in enumerate(raw.rows_B.tolist()):
            if row not in seen and len(seen) < total:
                seen.add(row)
                new.append(at)
        uids += [data.reader.sources[0].rows.uid(int(raw.rows_B[at])) for at in new]
        texts += [raw.texts[at] if raw.texts else "" for at in new]
        made = _encode(model, loader, step, raw, streams)
        for name in streams:
            vectors[name] += list(made[name][new])
            present[name] += raw.has[model.sources[name]].numpy()[new].tolist()
        film = next((name for name in streams if model.sources[name] == FILM), None)
        if film is not None and raw.frames_BTSSC is not None:
            for at, row in enumerate(raw.rows_B.tolist()):
                order = shuffled_order(data.reader.sources[0].rows.uid(row), raw.frames_BTSSC.shape[1])
                raw.frames_BTSSC[at] = raw.frames_BTSSC[at][torch.from_numpy(order)]
            shuffled += list(_encode(model, loader, step, raw, [film])[film][new])
    stacked = {model.sources[name]: np.stack(each) for name, each in vectors.items()}
    there = {model.sources[name]: np.array(each, dtype=bool) for name, each in present.items()}
    return StreamVectors(uids, stacked, there, texts, np.stack(shuffled) if shuffled else None)


def _encoded(model: Model) -> tuple[str, ...]:
    """Streams that have a vector: not the texts that a decoder writes."""
    return tuple(name for name in model.sources if name != "target")


def _encode(model: Model, loader: Loader, step: int, raw: RawBatch, streams: list[str]) -> dict[str, np.ndarray]:
    (batch,) = loader.ready(step, raw).pieces
    with torch.inference_mode():
        return {name: model.encode(name, batch.inputs[name]).float().cpu().numpy() for name in streams}
