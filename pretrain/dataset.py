"""The data of a run: each of its versions opened, checked and cut down to what qualifies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.columns import Column, read_column
from pretrain.config import Clause, ConfigError, TrainConfig
from pretrain.data import Reader, Shape
from pretrain.embeddings.audio import LogMel
from pretrain.embeddings.base import OF_TEXTS, SOURCES, Film, Sound
from pretrain.mel_cache import MelCache, settings_of
from pretrain.model import Model, Streams
from pretrain.pictures import cached_pictures
from pretrain.rows import Rows, map_rows
from pretrain.source import Source, open_source
from pretrain.targets.base import of_width
from pretrain.version import Version, open_version
from pretrain.views import StoredViews, stored_views, views_of

COMPLETE = "complete"
"""Status of a version all of whose evaluation sets were compared, all of each."""
CACHED_UP_TO_BYTES = 4_000_000_000
"""Of squares on disk: `pictures: auto` streams what would take more."""


@dataclass(frozen=True)
class Data:
    """columns: for each source, those of its version that the targets read. num_undecodable: of the first source."""

    reader: Reader
    columns: list[dict[str, Column]]
    num_undecodable: int

    @property
    def num_texts(self) -> int:
        """Texts of the first source that may be drawn."""
        return self.reader.sources[0].num_texts


def check_decontamination(version: Version, config: TrainConfig) -> None:
    """Raises ConfigError where a version was not checked against evaluation sets, unless the config waives it."""
    if config.decontamination == "waived" or version.decontamination == COMPLETE:
        return
    raise ConfigError(
        f"{version.folder.name}: its decontamination is {version.decontamination!r}, so what it is evaluated on may be "
        "among what it trains on. Add `decontaminate` with the evaluation sets to the recipe's policy and pack again, "
        "or say `decontamination: waived` in the training config"
    )


def is_cached(config: TrainConfig, num_samples: int, size: int) -> bool:
    """Whether the squares of a version are decoded once and kept."""
    if config.views is not None:
        return False
    return config.pictures == "cached" or (
        config.pictures == "auto" and num_samples * size * size * 3 <= CACHED_UP_TO_BYTES
    )


def open_data(
    config: TrainConfig,
    places: list[Path | str],
    cache: Path,
    model: Model,
    progress: Callable[[str], None] = lambda _: None,
) -> Data:
    """The reader of all versions of a config. places: its own version, then those of its mixture, in their order.

    cache: folder of what can be made again. Raises ConfigError or VersionError where data cannot be used.
    """
    sources: list[Source] = []
    pixels: list[np.memmap[Any, Any] | None] = []
    columns: list[dict[str, Column]] = []
    is_whole: list[np.ndarray | None] = []
    views: list[StoredViews] = []
    num_undecodable = 0
    shape = shape_of(model)
    all_media: set[str] = set()
    for number, place in enumerate(places):
        version = open_version(place)
        check_decontamination(version, config)
        columns.append(_columns(config, version))
        if config.views is not None:
            views.append(stored_views(cache / "views", version, config.views))
            if views[0].num_views != views[-1].num_views:
                raise ConfigError("views: the versions of a run must have as many views of a picture each")
        rows = map_rows(cache / "rows", version, progress)
        all_media |= {*rows.media, *(["audio"] if "video" in rows.media else [])}  # a film holds its sound
        qualified = _source(config, number, rows, shape.sources, None)
        if "image" in shape.sources and is_cached(config, version.num_samples, model.image_size):
            squares, whole = cached_pictures(
                cache / "pictures", version, model.image_size, model.fit, model.resample, progress
            )
            pixels.append(squares)
            is_whole.append(whole)
            damaged = rows.has("image") & ~whole
            if damaged[qualified.rows_N].any():
                num_undecodable += int(damaged[qualified.rows_N].sum()) if number == 0 else 0
                qualified = _source(config, number, rows, shape.sources, whole)
        else:
            pixels.append(None)
            is_whole.append(None)
        sources.append(qualified)
    lacking = sorted(name for name in shape.sources - all_media - {"text"} if not name.startswith(OF_TEXTS))
    if lacking:
        raise ConfigError(
            f"the model's streams read {lacking}, of which no version of this run has a column; there are: "
            f"{', '.join([*sorted(all_media), 'text'])}"
        )
    return Data(
        Reader(sources, config, shape, pixels, is_whole, _mels(config, cache), views or None), columns, num_undecodable
    )


def _mels(config: TrainConfig, cache: Path) -> MelCache | None:
    """Where the config wants log-mel frames kept. Raises ConfigError where its streams hear sounds in several ways."""
    if config.sounds != "cached":
        return None
    streams = config.model.streams if isinstance(config.model, Streams) else {}
    heard = [each.embedding for name, each in streams.items() if (each.source or name) == "audio"]
    mels = [each for each in heard if isinstance(each, LogMel)]
    if len(mels) < len(heard) or len({tuple(settings_of(each).items()) for each in mels}) != 1:
        raise ConfigError(
            "sounds: cached keeps log-mel frames: streams that read `audio` must all be LogMel (or MelStem) with the "
            "same settings; say `sounds: streamed`"
        )
    return MelCache(cache / "sounds", mels[0])


def open_sources(
    config: TrainConfig,
    places: list[Path | str],
    cache: Path,
    model: Model,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Source]:
    """What qualifies of each version as far as its light columns tell: nothing is decoded. Raises as `open_data`."""
    found, wanted = [], shape_of(model).sources
    versions = [open_version(place) for place in places]
    _check_alike([_columns(config, version) for version in versions], config)
    for number, version in enumerate(versions):
        found.append(_source(config, number, map_rows(cache / "rows", version, progress), wanted, None))
    return found


def shape_of(model: Model) -> Shape:
    """What of a sample a model wants. Raises ConfigError where it reads what no sample has."""
    named = model.sources.items()
    unknown = {name: source for name, source in named if source not in SOURCES and not source.startswith(OF_TEXTS)}
    if unknown:
        raise ConfigError(f"model.streams: {unknown} are no sources; valid: {', '.join(SOURCES)}, {OF_TEXTS}NAME")
    if any(source.startswith(OF_TEXTS) for _, source in named) and "text" not in model.sources.values():
        raise ConfigError(f"model.streams: {OF_TEXTS}NAME is said of the text drawn, but no stream reads `text`")
    try:
        spans = model.spans()
    except ValueError as error:
        raise ConfigError(f"model.streams: {error}") from error
    sound, film = spans.get("audio"), spans.get("video")
    return Shape(
        model.image_size, model.fit, model.resample, frozenset(model.sources.values()),
        sound if isinstance(sound, Sound) else None, film if isinstance(film, Film) else None,
    )  # fmt: skip


def _source(
    config: TrainConfig, number: int, rows: Rows, wanted: frozenset[str], is_whole: np.ndarray | None
) -> Source:
    where: tuple[Clause, ...] = config.where
    subset = config.subset
    if number:
        where, subset = config.mixture[number - 1].where, config.mixture[number - 1].subset
    try:
        return open_source(
            rows,
            where=where,
            subset=subset,
            exclude_languages=config.exclude_languages,
            policy=config.texts,
            seed=config.seed,
            captions_per_image=config.captions_per_image,
            wanted=wanted,
            is_whole=is_whole,
        )
    except ConfigError as error:
        raise error if not number else ConfigError(f"mixture.{number - 1}: {error}") from error


def _columns(config: TrainConfig, version: Version) -> dict[str, Column]:
    """What the targets read of a version. Raises ConfigError with the target where it cannot use what is there."""
    found: dict[str, Column] = {}
    for index, weighted in enumerate(config.targets):
        try:
            for name in weighted.target.columns():
                if name not in found:
                    found[name] = read_column(version, name)
            weighted.target.check_columns({**found, **_one_view(found, config, version)})
        except ValueError as error:  # ConfigError is one
            raise ConfigError(f"targets.{index}: {error}") from error
    return found


def _one_view(columns: dict[str, Column], config: TrainConfig, version: Version) -> dict[str, Column]:
    """What targets see of columns that hold a vector for each view: one of them."""
    if config.views is None:
        return {}
    num = views_of(version, config.views, read_column(version, config.views.parameters))
    own = {name: columns[name] for name in config.views.embeddings if name in columns}
    return {name: Column(each.values[:, : (each.width or 0) // num], each.present) for name, each in own.items()}


def _check_alike(columns: list[dict[str, Column]], config: TrainConfig) -> None:
    """Raises ConfigError where a column of a mixed version is of another width than that of the config's own."""
    for number, own in enumerate(columns[1:]):
        for name, column in own.items():
            if column.width != columns[0][name].width:
                raise ConfigError(
                    f"mixture.{number}.version = {config.mixture[number].version!r}: its column {name!r} holds "
                    f"{of_width(column.width)}, that of the config's version {of_width(columns[0][name].width)}"
                )
