"""A store of films and sounds that has been through the main job, for the tests that look at it."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tests.curation.av import media
from tests.pipelines import loopback
from tests.stores import links_file, recipe, run

SIGNALS = ["text_hygiene.TextHygiene", "caption_statistics.CaptionStatistics", "video_motion.VideoMotion"]
SIGNALS += ["audio_levels.AudioLevels", "media_fingerprint.MediaFingerprint", "picture_statistics.PictureStatistics"]
POLICY = [
    {"rule": "some_text", "keep": "text_clean is not null"},
    {"rule": "not_silent", "keep": "not has_audio or silence_share < 0.8"},
    {"rule": "not_still", "keep": "modality = 'audio' or not is_slideshow and still_share < 0.95"},
    {"dedupe": "copies", "prefer": "duration_s desc, size_bytes desc"},
]
SRT = "1\n00:00:00,500 --> 00:00:01,500\nfirst words\n\n2\n00:00:03,000 --> 00:00:04,000\nsecond words\n"
CUTS = {"one.mp4": (0.0, 2.4, 5.4, 7.6), "two.mkv": (0.0, 2.8, 5.2), "three.webm": (0.0, 2.2, 4.6)}
"""Where the shots of each film begin and end, in seconds."""


def film(seed: int, cuts: tuple[float, ...], kind: str, silent: bool = False, still: bool = False) -> bytes:
    lengths = [round((end - start) * media.FPS) for start, end in pairwise(cuts)]
    frames = [f for k, n in enumerate(lengths) for f in media.pan(10 * seed + k, n, 0 if still else 2, 160, 120)]
    sound = media.music(sum(lengths) / media.FPS, seed) * (0 if silent else 1)
    return media.write(frames, sound, kind, options={"g": "25"} if kind == "mp4" else None)


@dataclass(frozen=True)
class Finished:
    """A store of all of them, what the run said, and where things are."""

    store: Path
    recipe: Path
    sources: tuple[Path, ...]
    url: str
    said: list[str]
    song: bytes

    def again(self, *links: Path) -> list[str]:
        return run(self.store, self.recipe, *self.sources, *links)


def write_recipe(path: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "name": "av",
        "samples_per_part": 4,
        "source": {"modality": "av", "columns": {"url": "url", "text": ["caption", "subtitles"]}},
        "download": {"fetch": {"memory_cap_bytes": 100_000, "retries": 0}},
        "segment": {"by": "shots", "subtitles": ["subtitles"], "shots": {"min_s": 1.5, "max_s": 20}},
        "signals": [{"use": f"curation.signals.{name}"} for name in SIGNALS],
        "duplicates": {"exact": ["sha256"], "perceptual": False, "segments": {"min_share": 0.5}},
        "pack": {"samples_per_shard": 4, "columns": ["loudness_lufs"], "media": {"row_group_rows": 2}},
    }
    return recipe(path, POLICY, **{**content, **changes})


@contextmanager
def finished_store(root: Path) -> Iterator[Finished]:
    """Three films and a song as links among what is broken; copies, a still and silence in a folder and a tar."""
    song = media.small("mp3", 5.0, 7)
    one, two = film(1, CUTS["one.mp4"], "mp4"), film(2, CUTS["two.mkv"], "mkv")
    served = {"/one.mp4": one, "/two.mkv": two, "/song.mp3": song, "/page.mp4": b"<html>no film</html>"}
    served |= {"/torn.mp4": one[:20_000], "/short.mp4": film(8, (0.0, 0.8), "mp4")}
    folder = root / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "three.webm").write_bytes(film(3, CUTS["three.webm"], "webm"))
    (folder / "deep" / "three.en.vtt").write_text("WEBVTT\n\n00:02.500 --> 00:03.500\nthird words\n")
    (folder / "deep" / "three.txt").write_text("A third film\n")
    (folder / "copy.avi").write_bytes(film(1, CUTS["one.mp4"], "avi"))
    (folder / "copy.txt").write_text("The first film again")
    (folder / "still.mp4").write_bytes(film(5, (0.0, 3.0), "mp4", still=True))
    (folder / "still.txt").write_text("Nothing moves")
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name, body in (("a/0.mkv", film(6, (0.0, 2.0), "mkv", silent=True)), ("a/0.txt", b"Not a sound")):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    with loopback.Server() as server:
        for path, body in served.items():
            server.routes[path] = lambda request, body=body: request.reply(body, headers={"Content-Type": "video/x"})
        links = [(server.url(path), f"caption of {path[1:]}") for path in [*served, "/gone.mp4"]]
        subtitles = [SRT, *[None] * (len(links) - 1)]
        table = links_file(root / "links.parquet", links, subtitles=np.array(subtitles, object))
        sources = (table, folder)
        file = write_recipe(root / "av.yaml")
        said = run(root / "store", file, *sources)
        yield Finished(root / "store", file, sources, server.url(""), said, song)


NAME = "regexp_extract(url, '([a-z0-9]+\\.[a-z0-9]+)(\\?|$)', 1)"
"""SQL: the name of a source's file."""
