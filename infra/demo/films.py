"""Build the demo's crawl of films: pictures with spoken captions, cut at known times, among copies and dirt.

    python infra/demo/films.py OUT                  # the Tux Paint stamps and their spoken captions (Debian package)
    python infra/demo/films.py OUT --synthetic 60   # drawn pictures and made tunes: no download

writes
    OUT/links.parquet        url, title, subtitles (SRT: each caption while its picture is shown), language (BCP 47)
    OUT/routes.json, OUT/files/   what server.py answers
    OUT/truth.parquet        one row a shot: url, film, start_s, end_s, caption, language, picture, offset_s (of
                             knocks), copy_of (the film, for copies), label (film, copy, or how the link is broken:
                             these have no shots; open: of another maker, `film` says which content and `picture`
                             is the name of the file)
    OUT/films.json           the stamp: arguments and counts; written last

Every choice is a keyed hash, so the same arguments give the same films.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import dirt
import numpy as np
import open_media
import pyarrow as pa
import pyarrow.parquet as pq
from crawl import SEED, Crawl, write_json
from film import FPS, RATE_HZ, Film, Shot, draw, encode, trimmed, tune
from keyed import between, pick, ranked
from numpy.typing import NDArray
from package import PackageError, fetch
from picture import Picture
from pictures import draw_pictures
from stamps import read_stamps

VERSION = 3
BASE_URL = "http://127.0.0.1:8071"
SHOTS = 6
"""Pictures of a film; every other film ends with a shot of knocks besides."""
MIN_SHOT_S, MAX_SHOT_S, PAUSE_S, KNOCKS_S = 2.4, 6.0, 0.8, 8.0
MAX_OFFSET_S = 0.4
FIRST_KINDS = ("mp4", "webm", "mkv")
COPY_KINDS = ("webm", "mkv", "mov", "ts", "flv", "avi", "hevc", "mp4")
BROKEN = ("http_404", "html", "cut_file", "empty_film")
TRUTH = pa.schema(
    [
        *((name, pa.string()) for name in ("url", "film", "label", "copy_of")),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        *((name, pa.string()) for name in ("caption", "language", "picture")),
        ("offset_s", pa.float64()),
    ]
)
LINKS = pa.schema([(name, pa.string()) for name in ("url", "title", "subtitles", "language")])
TYPES = {"mp4": "video/mp4", "hevc": "video/mp4", "webm": "video/webm", "mkv": "video/x-matroska", "ts": "video/mp2t",
         "mov": "video/quicktime", "flv": "video/x-flv", "avi": "video/x-msvideo"}  # fmt: skip


def spoken(path: Path) -> NDArray[np.float32]:
    """A spoken caption: float32 [n] at 48 kHz, mono; decoded in the project's limited child."""
    from curation.media.av_decode import AvDecoder
    from curation.media.av_types import AudioTap, Wanted

    global _DECODER
    _DECODER = _DECODER or AvDecoder()
    _, got = _DECODER.gather(path, Wanted(audio=(AudioTap(RATE_HZ),)))
    samples = got.samples()
    return np.zeros(0, np.float32) if samples is None else samples.pcm[:, 0]


_DECODER: Any = None


def shot_of(picture: Picture, language: str, *key: object) -> Shot:
    """A picture for as long as its caption is spoken, and some more."""
    sound = spoken(picture.audio[language]) if language in picture.audio else tune(between(1.8, 4.0, *key), *key)
    seconds = min(max(len(sound) / RATE_HZ + PAUSE_S, MIN_SHOT_S), MAX_SHOT_S)
    return Shot(picture, language, round(seconds * FPS) / FPS, sound)


def languages_of(pictures: list[Picture]) -> dict[str, list[Picture]]:
    """Language -> the pictures whose caption somebody has spoken in it (drawn pictures: all in English)."""
    found: dict[str, list[Picture]] = {}
    for picture in pictures:
        for language in picture.audio if picture.audio else () if any(p.audio for p in pictures) else ("en",):
            if language in picture.captions:
                found.setdefault(language, []).append(picture)
    return {language: own for language, own in sorted(found.items()) if len(own) >= SHOTS}


def films_of(pictures: list[Picture], num_films: int) -> list[tuple[str, list[Shot]]]:
    """(name, shots) of the films: each in one language, no two with the same picture in the same language."""
    by_language = languages_of(pictures)
    used: set[tuple[str, str]] = set()
    films = []
    for index in range(num_films):
        language = list(by_language)[index % len(by_language)]
        order = ranked((p.name for p in by_language[language]), SEED, "film", language)
        free = [name for name in order if (language, name) not in used][:SHOTS]
        if len(free) < SHOTS:
            continue
        used |= {(language, name) for name in free}
        by_name = {picture.name: picture for picture in by_language[language]}
        shots = [shot_of(by_name[name], language, SEED, name, language) for name in free]
        if index % 2:
            offset = round(between(-MAX_OFFSET_S, MAX_OFFSET_S, SEED, "offset", index), 3)
            shots.append(Shot(by_name[free[0]], language, KNOCKS_S, np.zeros(0, np.float32), offset))
        films.append((f"film{index:03d}", shots))
    return films


def srt(shots: list[Shot], edges: list[int], head_s: float = 0.0, end_s: float = 1e9) -> str:
    """Subtitles of a film without its first `head_s`: each caption while its picture is shown; none for knocks."""
    blocks = []
    for shot, (first, last) in zip(shots, itertools.pairwise(edges), strict=True):
        start, end = max(first / FPS + 0.2 - head_s, 0.0), min(last / FPS - 0.2 - head_s, end_s)
        if shot.offset_s is None and end > start:
            text = caption_of(shot)
            blocks.append(f"{len(blocks) + 1}\n{_time(start)} --> {_time(end)}\n{text}\n")
    return "\n".join(blocks)


def caption_of(shot: Shot) -> str:
    """Its caption with single spaces, as subtitles have it."""
    return " ".join(shot.picture.captions[shot.language].split())


def _time(seconds: float) -> str:
    millis = round(seconds * 1000)
    return f"{millis // 3_600_000:02d}:{millis // 60_000 % 60:02d}:{millis // 1000 % 60:02d},{millis % 1000:03d}"


class Films:
    """The crawl while it is built."""

    def __init__(self, out: Path, base_url: str) -> None:
        self.crawl = Crawl(out, base_url)
        self.links: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []

    def add(
        self,
        name: str,
        film: Film,
        kind: str,
        head_s: float = 0.0,
        tail_s: float = 0.0,
        copy_of: str | None = None,
        half: bool = False,
    ) -> bytes:
        shown = trimmed(film, head_s, tail_s, half) if copy_of else film
        body = encode(shown, kind)
        path = self.crawl.route(name, kind, file=self.crawl.store(body, f".{kind}"), type=TYPES[kind])
        end_s, url, language = len(shown.frames) / FPS, self.crawl.base_url + path, film.shots[0].language
        title = f"{film.shots[0].picture.captions[language]} ({len(film.shots)} pictures)"
        subtitles = srt(list(film.shots), film.edges, head_s, end_s)
        self.links.append({"url": url, "title": title, "subtitles": subtitles, "language": language})
        for shot, (first, last) in zip(film.shots, itertools.pairwise(film.edges), strict=True):
            start, end = max(first / FPS - head_s, 0.0), min(last / FPS - head_s, end_s)
            if end > start:
                caption = caption_of(shot) if shot.offset_s is None else None
                self.truth.append(
                    {"url": url, "film": name, "label": "copy" if copy_of else "film", "copy_of": copy_of,
                     "start_s": start, "end_s": end, "caption": caption, "language": language,
                     "picture": shot.picture.name, "offset_s": shot.offset_s}
                )  # fmt: skip
        return body

    def add_open(self, package: str, file: Path) -> None:
        """A film or sound that somebody else made, as it is in its package."""
        content = open_media.content_of(package, file)
        kind = open_media.TYPES[file.suffix.lower()]
        path = self.crawl.route("open", content, file.name, file=self.crawl.store_file(file), type=kind)
        url = self.crawl.base_url + path
        title = f"A {'sound' if kind.startswith('audio') else 'film'} that comes with the package {package}"
        self.links.append({"url": url, "title": title, "subtitles": None, "language": "en"})
        self.truth.append(
            dict.fromkeys(TRUTH.names) | {"url": url, "film": content, "label": "open", "picture": file.name}
        )

    def add_broken(self, label: str, body: bytes) -> None:
        key = ("broken", label)
        if label == "http_404":
            path = self.crawl.route(*key, status=404)
        elif label == "html":
            path = self.crawl.route(*key, file=self.crawl.store(dirt.HTML, ".html"), type="video/mp4")
        elif label == "cut_file":
            path = self.crawl.route(*key, file=self.crawl.store(body[: len(body) // 3], ".mp4"), type="video/mp4")
        else:
            path = self.crawl.route(*key, file=self.crawl.store(body[:32], ".mp4"), type="video/mp4")
        url = self.crawl.base_url + path
        self.links.append({"url": url, "title": f"A film that is broken: {label}", "subtitles": None, "language": "en"})
        self.truth.append(dict.fromkeys(TRUTH.names) | {"url": url, "film": label, "label": label})


def build(
    out: Path,
    num_films: int = 24,
    num_copies: int = 8,
    synthetic: int | None = None,
    package: Path | None = None,
    base_url: str = BASE_URL,
    with_open: bool = False,
) -> dict[str, Any]:
    """Build the crawl under `out`, unless one with these arguments is there; returns its counts.

    with_open: with open films and sounds of package registries among them, as far as these can be had.
    """
    arguments = {
        "version": VERSION,
        "films": num_films,
        "copies": num_copies,
        "synthetic": synthetic,
        "base_url": base_url,
        "open": with_open,
    }
    stamp = out / "films.json"
    if stamp.is_file() and (found := json.loads(stamp.read_text()))["arguments"] == arguments:
        return dict(found["counts"])
    pictures = draw_pictures(synthetic) if synthetic else read_stamps(fetch(out, package))
    films = Films(out, base_url)
    bodies = []
    for index, (name, shots) in enumerate(films_of(pictures, num_films)):
        film = draw(shots, SEED, name)
        bodies.append(films.add(name, film, FIRST_KINDS[index % len(FIRST_KINDS)]))
        if index < num_copies:
            head, tail = ((0.0, 0.0), (0.48, 0.32), (0.0, 0.72))[index % 3]
            kind = COPY_KINDS[index % len(COPY_KINDS)]
            films.add(f"{name}-copy", film, kind, head, tail, name, half=pick((False, True), SEED, "half", name))
    for label in BROKEN:
        films.add_broken(label, bodies[0])
    for name, files in open_media.fetch(out).items() if with_open else ():
        for file in files:
            films.add_open(name, file)
    write_json(out / "routes.json", {"routes": films.crawl.routes})
    for name, rows, schema in (("links", films.links, LINKS), ("truth", films.truth, TRUTH)):
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), out / f"{name}.parquet")
    seconds = sum(row["end_s"] - row["start_s"] for row in films.truth if row["start_s"] is not None)
    num_open = sum(row["label"] == "open" for row in films.truth)
    counts = {"links": len(films.links), "films": len(bodies), "open_media": num_open}
    counts |= {"shots": sum(row["start_s"] is not None for row in films.truth), "seconds": round(seconds)}
    write_json(stamp, {"arguments": arguments, "counts": counts})
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the demo's crawl of films.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--films", type=int, default=16)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--synthetic", type=int, help="drawn pictures instead of the Debian package")
    parser.add_argument("--package", type=Path, help="the Debian package as a file, where there is no network")
    parser.add_argument("--base-url", default=BASE_URL)
    parser.add_argument("--open", action="store_true", help="with open films and sounds of package registries")
    args = parser.parse_args()
    try:
        print(build(args.out, args.films, args.copies, args.synthetic, args.package, args.base_url, args.open))
    except PackageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
