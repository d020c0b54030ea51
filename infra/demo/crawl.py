"""The crawl while it is built: its tables, its bodies by content, and how the server answers for each path."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import dirt
import pyarrow as pa
import pyarrow.parquet as pq
from keyed import digest, number, pick
from picture import Picture

SEED = "tamis demo"
LINKS = pa.schema([(name, pa.string()) for name in ("url", "caption", "language", "category", "split", "audio_url")])
TRUTH = pa.schema([(name, pa.string()) for name in ("url", "label", "picture", "copy_of")])
TRUTH_CAPTIONS = pa.schema([(name, pa.string()) for name in ("url", "language", "label", "caption")])

Route = dict[str, object]
Row = dict[str, str | None]


@dataclass
class Crawl:
    """The crawl while it is built."""

    out: Path
    base_url: str
    level: str = "light"
    """How dirty it is: one of `dirt.LEVELS`."""
    routes: dict[str, Route] = field(default_factory=dict)
    links: list[Row] = field(default_factory=list)
    truth: list[Row] = field(default_factory=list)
    damaged: list[Row] = field(default_factory=list)

    def store(self, data: bytes, suffix: str) -> str:
        """Write a body unless it is there; its path under OUT, named by its content."""
        path = self._place(hashlib.sha256(data).hexdigest(), suffix)
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(data)
            part.replace(path)
        return path.relative_to(self.out).as_posix()

    def store_file(self, source: Path) -> str:
        """As store, for a file that is better linked than copied."""
        with source.open("rb") as file:
            path = self._place(hashlib.file_digest(file, "sha256").hexdigest(), source.suffix)
        if not path.exists():
            try:
                os.link(source, path)
            except OSError:  # another file system, or one without hard links
                part = path.with_suffix(".part")
                shutil.copyfile(source, part)
                part.replace(path)
        return path.relative_to(self.out).as_posix()

    def _place(self, content: str, suffix: str) -> Path:
        path = self.out / "files" / content[:2] / f"{content[2:]}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def route(self, *key: object, **answer: object) -> str:
        """Make a path under which the server gives `answer`. Opaque: no suffix, no order."""
        name = digest(SEED, "url", *key)
        path = f"/f/{name[:2]}/{name[2:]}"
        self.routes[path] = answer
        return path


def damaged_route(crawl: Crawl, picture: Picture, label: str) -> str:
    """The one path of a picture with this label, and how the server answers for it."""
    key = (label, picture.name)
    png = {"file": crawl.store(picture.data, ".png"), "type": "image/png"}
    if label == "clean":
        return crawl.route(*key, **png)
    if label.startswith("http_"):
        return crawl.route(*key, status=int(label.removeprefix("http_")))
    if label == "closed":
        return crawl.route(*key, status=0)
    if label == "html":
        return crawl.route(*key, file=crawl.store(dirt.HTML, ".html"), type=pick(dirt.HTML_TYPES, *key))
    if label in ("short_body", "cut_file"):
        where = {"short_body": "short", "cut_file": "cut"}[label]
        return crawl.route(*key, **png, **{where: dirt.cut_at(picture.data)})
    if label == "tiny":
        return crawl.route(*key, file=crawl.store(dirt.tiny_png(), ".png"), type="image/png")
    if label == "bomb":
        return crawl.route(*key, file=crawl.store(dirt.bomb_png(), ".png"), type="image/png")
    if label == "noai":
        return crawl.route(*key, **png, headers={"X-Robots-Tag": pick(dirt.NOAI_TAGS, *key)})
    status = pick((301, 302, 307), *key)
    if label == "redirect":
        target = crawl.route(*key, "target", **png)
        return crawl.route(*key, status=status, location=pick(("", "{origin}"), *key, "form") + target)
    target = f"http://{dirt.FORBIDDEN_HOST}:{{port}}/latest/meta-data/"
    if number(*key, "hops") % 2:  # an innocent hop first
        target = crawl.route(*key, "hop", status=302, location=target)
    return crawl.route(*key, status=status, location=target)


def copy_route(crawl: Crawl, picture: Picture, label: str) -> str:
    """The path of a copy of a picture."""
    if label == "jpeg_copy":
        body = crawl.store(dirt.jpeg_copy(picture.data), ".jpg")
        return crawl.route(label, picture.name, file=body, type="image/jpeg")
    data = dirt.resized_copy(picture.data) if label == "resized_copy" else picture.data
    return crawl.route(label, picture.name, file=crawl.store(data, ".png"), type="image/png")


def write_table(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    """Write rows in hashed order, through a temporary name."""
    # by path, not by URL: the same order whatever the base URL
    rows = sorted(rows, key=lambda row: digest(SEED, "order", str(row["url"]).split("/f/")[1], row.get("language")))
    table = pa.Table.from_pylist(rows, schema=schema)
    part = path.with_name(f".{path.name}.part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)


def write_json(path: Path, value: object) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
