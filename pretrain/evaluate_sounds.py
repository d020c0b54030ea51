"""Evaluation of models that hear: retrieval between sounds, pictures and texts of held-out pictures and languages.

A version of sounds has one row for each sound, and the picture of several sounds in each of their rows: here equal
pictures are one candidate, right for all of their sounds, and equal texts are one candidate.
Shape suffixes: R rows, N candidates, D common dimension.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pretrain.config import TrainConfig
from pretrain.embed import TwoTowerScorer
from pretrain.embeddings.base import Sound
from pretrain.found import Found
from pretrain.model import Model
from pretrain.pictures import cached_pictures
from pretrain.retrieval import Side, match
from pretrain.rows import Rows, map_rows
from pretrain.samples import Samples, read_samples
from pretrain.segments import SegmentReader, sound_window
from pretrain.suites import HELD_OUT, SPLIT_COLUMN, drawn
from pretrain.version import Version

MAX_SOUNDS = 2000
"""Rows of a suite beyond these are left out by a keyed hash of their names, the same ones for every model."""
MAX_TRAINED = 500
"""The same of rows that were trained on, which are only there to compare with."""
MIN_ROWS = 10
"""Rows that a suite needs."""
LANGUAGE_COLUMN = "language_claimed"
_BATCH = 32
PAIRS = (("audio", "image"), ("text", "image"), ("audio", "text"))


@dataclass(frozen=True)
class Heard:
    """Rows of a suite with what they hold. rows: in the version; pictures, texts: what each row shows and says."""

    name: str
    rows: np.ndarray
    pictures: list[bytes]
    texts: list[str]
    languages: list[tuple[str, ...]]


def of_spoken_pictures(model: Model, version: Version) -> bool:
    """Whether a model hears and sees, and the version has sounds with pictures and says in which language each is."""
    wanted = {"audio", "image", LANGUAGE_COLUMN}
    return {"audio", "image"} <= set(model.sources.values()) and wanted <= set(version.columns())


def sound_figures(
    scorer: TwoTowerScorer,
    config: TrainConfig,
    version: Version,
    store: Path,
    progress: Callable[[str], None],
) -> Found:
    """The figures of a model with a stream of sound.

    Suites: `held_out_pictures` (split = val, in languages that were trained on), `held_out_languages` (other pictures,
    languages that no row of the training has) and, to compare with, `trained` (rows that were trained on). Conditions
    of the config on other columns than SPLIT_COLUMN and LANGUAGE_COLUMN hold for all of them.
    """
    model = scorer.model
    wanted = model.spans()["audio"]
    assert isinstance(wanted, Sound)
    folder = store / "cache"
    pixels, is_whole = cached_pictures(
        folder / "pictures", version, model.image_size, model.fit, model.resample, progress
    )
    rows = map_rows(folder / "rows", version, progress)
    reader = SegmentReader(model.image_size, model.fit, model.resample)
    found = Found()
    for name, samples in members(version, config, is_whole & rows.has("audio")):
        heard = _heard(name, samples, rows)
        sounds = [_sound(reader, rows, int(row), wanted) for row in heard.rows]
        there = np.array([sound is not None for sound in sounds])
        if there.sum() < MIN_ROWS:
            continue
        heard = _subset(heard, np.flatnonzero(there))
        progress(
            f"evaluate: {name}: {len(heard.rows):,} sounds of {len(set(heard.pictures)):,} pictures in "
            f"{len({language for spoken in heard.languages for language in spoken})} languages"
        )
        vectors = {
            "audio": _encoded(scorer, model.stream_of("audio"), [sound for sound in sounds if sound is not None])
        }
        if "image" in model.encoded():
            vectors["image"] = scorer.encode_squares(pixels[heard.rows])
        if "text" in model.encoded():
            vectors["text"] = scorer.encode_texts(heard.texts)[0]
        pairs = [pair for pair in PAIRS if set(pair) <= vectors.keys()]
        for query, candidate in pairs if name != "trained" else pairs[:1]:
            found += _pair_rows(heard, vectors, query, candidate)
    return found


def members(version: Version, config: TrainConfig, is_there: np.ndarray) -> list[tuple[str, Samples]]:
    """(suite, its samples) of those that have enough rows, at most MAX_SOUNDS each."""
    others = tuple(each for each in config.where if each.column not in (SPLIT_COLUMN, LANGUAGE_COLUMN))
    everything = read_samples(version, others)
    is_trained = np.isin(everything.rows, read_samples(version, config.where).rows)
    names = version.read([SPLIT_COLUMN]).column(0).to_pylist() if SPLIT_COLUMN in version.columns() else None
    unseen = np.array([names[row] == HELD_OUT for row in everything.rows]) if names else np.zeros(len(is_trained), bool)
    spoken = [{language for text in texts for language in text.languages} for texts in everything.texts]
    known = {language for place in np.flatnonzero(is_trained) for language in spoken[place]}
    is_known = np.array([bool(own) and own <= known for own in spoken])
    is_new = np.array([bool(own) and not own & known for own in spoken])
    has_text = np.array([bool(texts) for texts in everything.texts])
    usable = is_there[everything.rows] & has_text
    chosen = {
        "held_out_pictures": unseen & ~is_trained & is_known,
        "held_out_languages": ~unseen & ~is_trained & is_new,
        "trained": is_trained,
    }
    found = [(name, everything.subset(usable & keep)) for name, keep in chosen.items()]
    most = {"trained": MAX_TRAINED}
    return [
        (name, each.subset(drawn(each.hashes, most.get(name, MAX_SOUNDS))))
        for name, each in found
        if len(each) >= MIN_ROWS
    ]


def _heard(name: str, samples: Samples, rows: Rows) -> Heard:
    pictures = [hashlib.sha256(rows.image(int(row))).digest() for row in samples.rows]
    return Heard(
        name,
        samples.rows,
        pictures,
        [texts[0].text for texts in samples.texts],
        [tuple(sorted({language for text in texts for language in text.languages})) for texts in samples.texts],
    )


def _subset(heard: Heard, places: np.ndarray) -> Heard:
    return Heard(
        heard.name,
        heard.rows[places],
        [heard.pictures[i] for i in places],
        [heard.texts[i] for i in places],
        [heard.languages[i] for i in places],
    )


def _sound(reader: SegmentReader, rows: Rows, row: int, wanted: Sound) -> np.ndarray | None:
    """The sound of a row, of a longer one its middle; None where it does not decode."""
    data, _ = rows.sound(row)
    duration_s = rows.duration_s(row)
    if duration_s is None:
        duration_s = reader.duration_s(data) or wanted.max_s
    window_s = sound_window(duration_s, wanted.max_s, "middle", 0.5)
    return None if window_s is None else reader.sound(data, wanted, window_s)


@torch.inference_mode()
def _encoded(scorer: TwoTowerScorer, stream: str, sounds: Sequence[np.ndarray]) -> np.ndarray:
    """(R, D) unit vectors; sounds of one length together, so that little is padded."""
    model = scorer.model
    order = sorted(range(len(sounds)), key=lambda place: len(sounds[place]))
    vectors_RD = np.zeros((len(sounds), model.embed_dim), dtype=np.float32)
    for start in range(0, len(order), _BATCH):
        some = order[start : start + _BATCH]
        inputs = model.prepare(stream, [sounds[place] for place in some])
        placed = {name: value.to(scorer.device) for name, value in inputs.items()}
        vectors_RD[some] = model.encode(stream, placed).float().cpu().numpy()
    return vectors_RD


def _pair_rows(heard: Heard, vectors: dict[str, np.ndarray], query: str, candidate: str) -> Found:
    """Figures of both directions between two modalities; equal pictures and equal texts are one."""
    of: dict[str, Sequence[object]] = {
        "audio": range(len(heard.rows)),
        "image": heard.pictures,
        "text": heard.texts,
    }
    sides, places = [], []
    for kind in (query, candidate):
        first, place = _distinct(of[kind])
        languages: list[set[str]] = [set() for _ in first]
        for at, spoken in zip(place, heard.languages, strict=True):
            languages[at] |= set(spoken)
        clusters = [heard.pictures[row].hex() for row in first]
        spoken_in = [tuple(sorted(each)) for each in languages] if kind == query else None
        sides.append(Side(kind, vectors[kind][first], [str(heard.rows[row]) for row in first], clusters, spoken_in))
        places.append(place)
    positive_QN = np.zeros((len(sides[0].items), len(sides[1].items)), dtype=bool)
    positive_QN[places[0], places[1]] = True
    return match(heard.name, sides[0], sides[1], positive_QN)[0]


def _distinct(items: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """(place of the first of each kind, which kind each is), kinds in the order of their first."""
    kinds: dict[object, int] = {}
    first: list[int] = []
    for place, item in enumerate(items):
        if item not in kinds:
            kinds[item] = len(kinds)
            first.append(place)
    return np.array(first, dtype=np.int64), np.array([kinds[item] for item in items], dtype=np.int64)
