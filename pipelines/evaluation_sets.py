"""Evaluation sets: pictures and texts that no training corpus may hold, registered once in a store by name.

A set keeps what its items are told by (digests, perceptual hashes with thumbnails, texts with their normal forms, and
embeddings where a recipe names a model), never the pictures themselves. evaluation_sets/<name>/ holds two parts and
manifest.json; the digest there stands for the content, and each version says which digests it was checked against.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from curation.file_digest import file_digest
from curation.media.decode import DecodeLimits
from curation.policy import SetName
from curation.reasons import Reason
from curation.rows_digest import json_digest
from curation.schema import MEDIA
from curation.shingles import normal_form
from curation.signal import ColumnSignal, ImageSignal, Signal
from curation.signals.content_hash import ContentHash
from curation.signals.perceptual_hash import PerceptualHash
from curation.signals.text_hygiene import TextHygiene
from curation.step import digest
from curation.table import read_part, replace_text, write_part
from pipelines.download import download, media_parts
from pipelines.ingest import ingest
from pipelines.media_row import decoder
from pipelines.recipe import Columns, Recipe, Source
from pipelines.score import score
from pipelines.sources import SourceError, find_files, read_links
from pipelines.stage import Report, Run
from pipelines.store import Store, StoreError
from pipelines.workers import SerialWorkers

FORMAT = "tamis.evaluation_set/1"
FOLDER = "evaluation_sets"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
FAILED_SHOWN = 100
_AT_A_TIME = 64


def check_name(name: str) -> None:
    """Raises SourceError for a name that no set may have."""
    try:
        TypeAdapter(SetName).validate_python(name)
    except ValidationError as error:
        raise SourceError(f"{name!r} is no name of an evaluation set: {error.errors()[0]['msg']}") from error


@dataclass(frozen=True)
class EvaluationSet:
    """One set as the store has it."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def digest(self) -> str:
        """64 hex digits: of the items and of the signals that describe them."""
        return str(self.manifest["digest"])

    def pictures(self) -> pa.Table:
        """item, sha256, and the columns of the picture signals."""
        return read_part(self.folder / self.manifest["pictures"])

    def texts(self) -> pa.Table:
        """item, text, normal, and the columns of the text signals."""
        return read_part(self.folder / self.manifest["texts"])


def evaluation_sets(store: Store) -> list[EvaluationSet]:
    """All sets of the store, by name."""
    return [open_set(store, path.parent.name) for path in sorted((store.root / FOLDER).glob("*/manifest.json"))]


def open_set(store: Store, name: str) -> EvaluationSet:
    """Raises StoreError naming the sets that there are."""
    path = store.root / FOLDER / name / "manifest.json"
    if not path.is_file():
        there = ", ".join(sorted(each.parent.name for each in (store.root / FOLDER).glob("*/manifest.json")))
        raise StoreError(
            f"{store.root} has no evaluation set {name!r}; there are: {there or 'none'}; "
            "`tamis evalset add STORE NAME --images FOLDER` registers one"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise StoreError(f"{path}: its format is {manifest['format']!r}, this program reads {FORMAT!r}")
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return EvaluationSet(path.parent, manifest)


def damaged_sets(store: Store) -> list[str]:
    """One line for each file of a set that is missing or is not what the manifest says."""
    return [
        f"{store.relative(one.folder / name)}: is missing, or its SHA-256 is not the manifest's"
        for one in evaluation_sets(store)
        for name, wanted in one.manifest["sha256"].items()
        if not (one.folder / name).is_file() or file_digest(one.folder / name) != wanted
    ]


@dataclass(frozen=True)
class Items:
    """What a set is made from; several kinds may be given at once."""

    images: Path | None = None
    """Folder of pictures, with its subfolders."""
    texts: tuple[Path, ...] = ()
    """Files: one text a line (.txt), or a column of a table."""
    text_column: str = "text"
    links: tuple[Path, ...] = ()
    """Link tables: their pictures are fetched as `tamis run` would."""
    columns: Columns = field(default_factory=Columns)


def add_set(store: Store, name: str, items: Items, recipe: Recipe, say: Report, replace: bool = False) -> EvaluationSet:
    """Register the items under `name`; the same content again changes nothing.

    `recipe` gives the limits of downloading and decoding, and the models whose embeddings are wanted. Raises
    SourceError where there is nothing to register, StoreError where the name stands for something else.
    """
    if not (items.images or items.texts or items.links):
        raise SourceError("nothing to register: give --images FOLDER, --links TABLE or --texts FILE")
    described = [ContentHash(), PerceptualHash(), *_models(recipe, ImageSignal)]
    of_texts = _models(recipe, ColumnSignal)
    failed: dict[str, str] = {}
    pictures = [_nothing(described)]
    texts: list[tuple[str, str]] = []
    if items.images is not None:
        pictures += _from_folder(items.images, described, recipe.download.decode, failed, say)
    if items.links:
        fetched, captions = _from_links(items, described, recipe, failed, say)
        pictures.append(fetched)
        texts += captions
    for path in items.texts:
        texts += _from_texts(path, items.text_column)
    table = pa.concat_tables(pictures).sort_by([("item", "ascending")])
    captions_table = _text_table(texts, of_texts)
    if table.num_rows == 0 and captions_table.num_rows == 0:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(failed.values()).items()))
        raise SourceError(f"evaluation set {name}: not one item could be read ({why or 'no text with a word in it'})")
    return _publish(store, name, table, captions_table, [*described, *of_texts], failed, replace)


def _models(recipe: Recipe, kind: type) -> list[Any]:
    """The recipe's signals of models that are there and need nothing but a picture, or a text."""
    signals = recipe.signals_until(len(recipe.all_rounds()) - 1)
    needs = {"stored_sha256"} if kind is ImageSignal else {"text_clean"}
    return [
        signal
        for signal in signals
        if isinstance(signal, kind)
        and signal.needs_model()
        and set(signal.reads()) <= needs
        and not str(getattr(signal, "model", "")).startswith("run:")
    ]


def _nothing(described: Sequence[ImageSignal]) -> pa.Table:
    fields = [pa.field("item", pa.string()), pa.field("sha256", pa.string())]
    return pa.schema([*fields, *(field for signal in described for field in signal.writes())]).empty_table()


# pictures -------------------------------------------------------------------------------------------------------------


def _from_folder(
    folder: Path, described: Sequence[ImageSignal], limits: DecodeLimits, failed: dict[str, str], say: Report
) -> Iterator[pa.Table]:
    """The pictures of a folder, decoded in the limited child, some at a time."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: there is no such folder of pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise SourceError(f"{folder}: holds no picture ({', '.join(SUFFIXES)})")
    for start in range(0, len(files), _AT_A_TIME):
        batch, digests, found = [], [], []
        for path in files[start : start + _AT_A_TIME]:
            data, item = path.read_bytes(), path.relative_to(folder).as_posix()
            decoded = decoder(limits).decode(data, max(signal.short_side_px for signal in described))
            if decoded.pixels is None:
                failed[item] = str(decoded.reason)
                continue
            batch.append(item)
            digests.append(hashlib.sha256(data).hexdigest())
            found.append({s.short_side_px: decoder(limits).decode(data, s.short_side_px).pixels for s in described})
        columns = {"item": pa.array(batch, pa.string()), "sha256": pa.array(digests, pa.string())}
        for signal in described:
            made = signal.compute_images([each[signal.short_side_px] for each in found])
            columns |= dict(zip(made.column_names, made.columns, strict=True))
        yield pa.table(columns, schema=_nothing(described).schema)
        say(f"  evaluation set: {min(start + _AT_A_TIME, len(files)):,} of {len(files):,} pictures")


def _from_links(
    items: Items, described: Sequence[ImageSignal], recipe: Recipe, failed: dict[str, str], say: Report
) -> tuple[pa.Table, list[tuple[str, str]]]:
    """The pictures and texts of link tables, fetched by the stages of a run in a store that is thrown away."""
    source = Source(links=[path.absolute() for path in items.links], columns=items.columns)
    signals: list[Signal] = list(described)
    inner = Recipe(name="evaluation-set", source=source, download=recipe.download, signals=signals, policy=[])
    with tempfile.TemporaryDirectory(prefix="tamis-evaluation-set-") as folder:
        store = Store.create(Path(folder) / "store")
        run = Run(inner, store, SerialWorkers(), store.state(), say=say)
        ingest(inner, store)
        download(run)
        score(run)
        parts = []
        for position, medium in enumerate(media_parts(run)):
            rows = read_part(medium.path, [name for name in MEDIA.names if name != "bytes"])
            columns = {"item": rows.column("url"), "sha256": rows.column("sha256")}
            for signal in described:
                made = read_part(store.files(run.state, f"signal_{signal.table_name()}")[position])
                columns |= {name: made.column(name) for name in signal.writes().names}
            is_ok = pc.equal(rows.column("status"), "ok")
            readable = pc.and_(is_ok, pc.is_valid(columns["pixel_hash"]))
            lost = rows.filter(pc.invert(readable))
            for row in lost.select(["url", "reason"]).to_pylist():
                failed[str(row["url"])] = str(row["reason"] or Reason.IMG_CORRUPT)
            parts.append(pa.table(columns, schema=_nothing(described).schema).filter(readable))
        texts = [
            (f"{row['text_source']} of {row['sample_uid']}", row["text"])
            for each in store.pool()
            for row in read_part(each.texts.path, ["text", "text_source", "sample_uid"]).to_pylist()
            if row["text"] is not None
        ]
    return pa.concat_tables([_nothing(described), *parts]), texts


# texts ----------------------------------------------------------------------------------------------------------------


def _from_texts(path: Path, column: str) -> Iterator[tuple[str, str]]:
    """(where it stands, text) of every text of a file."""
    if path.suffix.lower() != ".txt":
        if path.is_dir():
            raise SourceError(f"{path}: is a folder, not a file of texts")
        find_files([path])  # names what is missing, or of an unknown kind
        row = 0
        for table in read_links(path, Columns(url=column, text=[column])):
            for text in table.column(column).to_pylist():
                row += 1
                if text is not None:
                    yield f"{path.name}:{row}", text
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise SourceError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    yield from ((f"{path.name}:{number}", line) for number, line in enumerate(lines, start=1) if line.strip())


def _text_table(texts: Sequence[tuple[str, str]], of_texts: Sequence[ColumnSignal]) -> pa.Table:
    """Each different normal form once, with the first text that has it."""
    normal = normal_form(pa.array([text for _, text in texts], pa.string()))
    first: dict[str, int] = {}
    for row, form in enumerate(normal.to_pylist()):
        if form is not None:
            first.setdefault(form, row)
    rows = [first[form] for form in sorted(first)]
    columns = {
        "item": pa.array([texts[row][0] for row in rows], pa.string()),
        "text": pa.array([texts[row][1] for row in rows], pa.string()),
        "normal": pa.array(sorted(first), pa.string()),
    }
    clean = TextHygiene().compute(pa.table({"text": columns["text"]}))
    for signal in of_texts:
        made = signal.compute(clean.select(["text_clean"]))
        columns |= dict(zip(made.column_names, made.columns, strict=True))
    return pa.table(columns)


# the set --------------------------------------------------------------------------------------------------------------


def _publish(
    store: Store,
    name: str,
    pictures: pa.Table,
    texts: pa.Table,
    signals: Sequence[Signal],
    failed: dict[str, str],
    replace: bool,
) -> EvaluationSet:
    keys = {signal.table_name(): signal.key() for signal in signals}
    content = digest(FORMAT, keys, json_digest(pictures), json_digest(texts), dict(sorted(failed.items())))
    folder = store.root / FOLDER / name
    if (folder / "manifest.json").exists() and not replace:
        before = open_set(store, name)
        if before.digest != content:
            raise StoreError(
                f"evaluation set {name!r} is registered with other content (digest {before.digest[:12]}, this is "
                f"{content[:12]}): choose another name, or say --replace"
            )
        return before
    parts = {
        "pictures": write_part(folder, 0, digest("pictures", content), pictures),
        "texts": write_part(folder, 1, digest("texts", content), texts),
    }
    manifest = {
        "format": FORMAT,
        "name": name,
        "digest": content,
        "num_pictures": pictures.num_rows,
        "num_texts": texts.num_rows,
        "num_failed": len(failed),
        "failed": dict(sorted(Counter(failed.values()).items())),
        "failed_items": dict(sorted(failed.items())[:FAILED_SHOWN]),
        "signals": keys,
        **{kind: part.path.name for kind, part in parts.items()},
        "sha256": {part.path.name: file_digest(part.path) for part in parts.values()},
    }
    replace_text(folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return EvaluationSet(folder, manifest)
