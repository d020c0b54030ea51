"""Build the demo's crawl of spoken pictures: each link is a sound, beside it the picture that it goes with.

    python infra/demo/spoken.py OUT [--stamps FOLDER]   # the Tux Paint stamps, their spoken captions and sound effects
    python infra/demo/spoken.py OUT --synthetic 60      # drawn pictures and made tunes: no download

writes
    OUT/links.parquet        url (of the sound), picture (its URL), caption, language (BCP 47), kind (speech | effect),
                             name (of the picture), split (train | val, by families of pictures)
    OUT/routes.json, OUT/files/   what server.py answers
    OUT/truth.parquet        one row a sound: url, kind, name, language, split, label (clean, or what is wrong with it)
    OUT/spoken.json          the stamp: arguments and counts; written last

A spoken caption has that caption as its text, a sound effect the captions in all the languages taken. Every choice is a
keyed hash, so the same arguments give the same crawl.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import wave
from pathlib import Path
from typing import Any

import dirt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from corpus import split_of
from crawl import SEED, Crawl, write_json
from film import RATE_HZ, tune
from keyed import between, ranked, unit
from package import PackageError, fetch
from picture import Picture
from pictures import draw_pictures
from stamps import read_stamps

VERSION = 2
BASE_URL = "http://127.0.0.1:8071"
NUM_PICTURES = 520
"""Of the about 760 that somebody has spoken of in most of the languages: what two cores curate and train on in some
minutes."""
VAL_SHARE = 0.2
"""Of the families of pictures, held out: twice that of the other demo, for what is asked here needs many of them."""
LANGUAGES = ("fr", "es", "ro", "ca", "ru", "bg", "be")
"""Those in which most captions are spoken. Each is one speaker's, so a language that is held out is a voice, too."""
DAMAGE = {"picture_404": 0.01, "sound_404": 0.01, "sound_html": 0.005, "sound_cut": 0.005, "silent": 0.005}
"""Shares of the sounds."""
LINKS = pa.schema([(name, pa.string()) for name in ("url", "picture", "caption", "language", "kind", "name", "split")])
TRUTH = pa.schema([(name, pa.string()) for name in ("url", "kind", "name", "language", "split", "label")])


def chosen(pictures: list[Picture], num_pictures: int) -> list[Picture]:
    """Pictures that are spoken of in some of the languages (drawn ones: all), a keyed sample."""
    is_spoken = any(picture.audio for picture in pictures)
    able = {p.name: p for p in pictures if not is_spoken or sum(tag in p.audio for tag in LANGUAGES) >= 3}
    return [able[name] for name in ranked(able, SEED, "spoken")[:num_pictures]]


def languages_of(picture: Picture) -> list[str]:
    """In which a picture is spoken of: recorded, or, of a drawn picture, as a tune of its own."""
    if picture.audio:
        return [tag for tag in LANGUAGES if tag in picture.audio and tag in picture.captions]
    return sorted(picture.captions)[:3]


def sound_of(picture: Picture, language: str) -> tuple[bytes, str]:
    """The file of a spoken caption and its ending. Of a drawn picture, for tests, a tune that its caption decides."""
    if picture.audio:
        path = picture.audio[language]
        return path.read_bytes(), path.suffix
    return _wav(tune(between(0.8, 1.6, SEED, picture.name), SEED, picture.captions[language])), ".wav"


def _wav(samples: np.ndarray) -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return sink.getvalue()


def damage_of(*key: object) -> str:
    """What is wrong with a sound's link, or `clean`."""
    share = unit(SEED, "spoken damage", *key)
    for label, width in DAMAGE.items():
        if share < width:
            return label
        share -= width
    return "clean"


class Spoken:
    """The crawl while it is built."""

    def __init__(self, out: Path, base_url: str) -> None:
        self.crawl = Crawl(out, base_url)
        self.links: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []

    def picture(self, picture: Picture) -> str:
        """URL of a picture."""
        file = self.crawl.store(picture.data, ".png")
        return self.crawl.base_url + self.crawl.route("spoken picture", picture.name, file=file, type="image/png")

    def add(
        self, picture: Picture, kind: str, language: str, sound: tuple[bytes, str], texts: dict[str, str], split: str
    ) -> None:
        """A sound with its texts."""
        body, ending = sound
        key = ("spoken", kind, picture.name, language)
        label = damage_of(*key) if kind == "speech" else "clean"
        image = self.picture(picture)
        if label == "picture_404":
            image = self.crawl.base_url + self.crawl.route(*key, "picture", status=404)
        media_type = f"audio/{ending[1:]}"
        if label == "sound_404":
            path = self.crawl.route(*key, status=404)
        elif label == "sound_html":
            path = self.crawl.route(*key, file=self.crawl.store(dirt.HTML, ".html"), type=media_type)
        elif label == "sound_cut":
            path = self.crawl.route(*key, file=self.crawl.store(body[: len(body) // 3], ending), type=media_type)
        elif label == "silent":
            silence = _wav(np.zeros(RATE_HZ, np.float32))
            path = self.crawl.route(*key, file=self.crawl.store(silence, ".wav"), type="audio/wav")
        else:
            path = self.crawl.route(*key, file=self.crawl.store(body, ending), type=media_type)
        url = self.crawl.base_url + path
        common = {"url": url, "kind": kind, "name": picture.name, "split": split}
        self.links += [
            {**common, "picture": image, "caption": caption, "language": tag} for tag, caption in texts.items()
        ]
        self.truth.append({**common, "language": language, "label": label})


def build(
    out: Path,
    num_pictures: int = NUM_PICTURES,
    synthetic: int | None = None,
    stamps: Path | None = None,
    package: Path | None = None,
    base_url: str = BASE_URL,
) -> dict[str, Any]:
    """Build the crawl under `out`, unless one with these arguments is there; returns its counts.

    stamps: the folder below which the package is, or will be, unpacked; OUT if None.
    """
    arguments = {"version": VERSION, "pictures": num_pictures, "synthetic": synthetic, "base_url": base_url}
    stamp = out / "spoken.json"
    if stamp.is_file() and (found := json.loads(stamp.read_text()))["arguments"] == arguments:
        return dict(found["counts"])
    source = draw_pictures(synthetic) if synthetic else read_stamps(fetch(stamps or out, package))
    split = split_of({picture.family for picture in source}, VAL_SHARE)
    pictures = chosen(source, num_pictures)
    spoken = Spoken(out, base_url)
    for picture in pictures:
        languages, part = languages_of(picture), split[picture.family]
        for language in languages:
            texts = {language: picture.captions[language]}
            spoken.add(picture, "speech", language, sound_of(picture, language), texts, part)
        if picture.effect is not None:
            texts = {tag: picture.captions[tag] for tag in ("en", *languages) if tag in picture.captions}
            effect = picture.effect.read_bytes(), picture.effect.suffix
            spoken.add(picture, "effect", "", effect, texts, part)
    write_json(out / "routes.json", {"routes": spoken.crawl.routes})
    for name, rows, schema in (("links", spoken.links, LINKS), ("truth", spoken.truth, TRUTH)):
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), out / f"{name}.parquet")
    kinds = [row["kind"] for row in spoken.truth]
    counts = {
        "pictures": len(pictures),
        "spoken_captions": kinds.count("speech"),
        "sound_effects": kinds.count("effect"),
    }
    counts |= {"damaged": sum(row["label"] != "clean" for row in spoken.truth)}
    write_json(stamp, {"arguments": arguments, "counts": counts})
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the demo's crawl of spoken pictures.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=NUM_PICTURES)
    parser.add_argument("--synthetic", type=int, help="drawn pictures instead of the Debian package")
    parser.add_argument("--stamps", type=Path, help="folder below which the package is unpacked (default: OUT)")
    parser.add_argument("--package", type=Path, help="the Debian package as a file, where there is no network")
    parser.add_argument("--base-url", default=BASE_URL)
    args = parser.parse_args()
    try:
        print(build(args.out, args.pictures, args.synthetic, args.stamps, args.package, args.base_url))
    except PackageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
