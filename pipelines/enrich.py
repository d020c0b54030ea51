"""The stage `enrich`: generators write texts, which from then on are texts of the pool like those of the links.

tables/enriched_texts/<part>: the texts of a part as they came, and behind those of each sample what was written about
it, with the columns `GENERATED`. Until the next download the state calls these parts `texts`. The pool's own parts stay
as they are, so a recipe without `enrich` finds them again. A text that its sample has already, from a link or from an
earlier generator, is not written twice. Samples whose medium is not there get none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.generator import GENERATED, Generator, Sample, Written, prompt_hash
from curation.media.decode import DecodeLimits
from curation.media.decoded import View
from curation.rows_digest import rows_digest
from curation.shearing import counter, sheared
from curation.signals.language import primary
from curation.step import digest
from curation.table import Part, find_part, read_part, write_part
from curation.urls import uid
from pipelines.download import media_parts
from pipelines.picture_pass import AT_A_TIME, Lazily, decode_pool
from pipelines.stage import Run, Wanted, run_parts
from pipelines.workers import Task

TABLE = "enriched_texts"
VERSION = 1
"""Of the rules in this file."""
Row = dict[str, Any]


def enrich(run: Run) -> dict[str, Any]:
    """Have the recipe's generators write about every part that they have not written about."""
    wanted = wanted_parts(run)
    parts, stats = run_parts(run, "enrich", wanted)
    name_enriched(run, parts)
    written: Counter[str] = Counter()
    for part in parts:
        written.update(part.stats["written"])
    counts = {generator.source: written[generator.source] for generator in run.recipe.enrich}
    return {"texts": sum(part.num_rows for part in parts), **counts,
            **{name: stats[name] for name in ("parts_run", "parts_reused")}}  # fmt: skip


def name_enriched(run: Run, parts: Sequence[Part]) -> None:
    """What the texts of the state are from now on."""
    run.state.tables["texts"] = [run.store.relative(part.path) for part in parts]


def planned_enrich(run: Run) -> tuple[int, int]:
    """Parts that a run would make and those it would reuse; where all are there, the state of `run` names them."""
    found = [find_part(each.folder, each.index, each.key) for each in wanted_parts(run)]
    there = [part for part in found if part is not None]
    if len(there) == len(found):
        name_enriched(run, there)
    return len(found) - len(there), len(there)


def wanted_parts(run: Run) -> list[Wanted]:
    """One part of texts for each part of media."""
    generators, folder = run.recipe.enrich, run.store.table(TABLE)
    step = digest("enrich", VERSION, list(generators))
    needs_model = any(each.needs_model() for each in generators)
    wanted = []
    for media, each in zip(media_parts(run), run.store.samples(run.state), strict=True):
        key = digest(step, media.identity, each.texts.identity)
        arguments = {"generators": generators, "media": media.path, "texts": each.texts.path, "folder": folder,
                     "index": media.index, "key": key, "limits": run.recipe.download.decode,
                     "num_decoders": run.workers.num_decoders(needs_model)}  # fmt: skip
        task = Task(f"enrich of part {media.index}", enrich_part, arguments, needs_model)
        wanted.append(Wanted(folder, media.index, key, task))
    return wanted


def enrich_part(
    generators: Sequence[Generator],
    media: Path,
    texts: Path,
    folder: Path,
    index: int,
    key: str,
    limits: DecodeLimits,
    num_decoders: int = 1,
) -> dict[str, Any]:
    """Publish the texts of one part with those that generators write. Runs in a worker."""
    known = read_part(texts).replace_schema_metadata(None)
    rows_of: dict[str, list[Row]] = {}
    for row in known.to_pylist():
        rows_of.setdefault(row["sample_uid"], []).append(row)
    made: dict[str, list[Row]] = {}
    written: Counter[str] = Counter()
    for generator in generators:
        for samples, owners in _samples(generator, media, rows_of, limits, num_decoders):
            several = generator.write(samples)
            if len(several) != len(samples):
                raise ValueError(
                    f"{generator.import_path()} wrote about {len(several)} of {len(samples)} samples: it must give a "
                    "list, which may be empty, for each"
                )
            for sample, medium, found in zip(samples, owners, several, strict=True):
                own = made.setdefault(sample.sample_uid, [])
                before = [*rows_of[sample.sample_uid], *own]
                new = _rows(generator, sample, medium, found, before)
                own += new
                written[generator.source] += len(new)
    table = _beside(known, made)
    write_part(folder, index, key, table, identity=rows_digest(table), stats={"written": dict(written)})
    return {"rows": table.num_rows}


def _samples(
    generator: Generator, media: Path, rows_of: dict[str, list[Row]], limits: DecodeLimits, num_decoders: int
) -> Iterator[tuple[list[Sample], list[str]]]:
    """Samples whose medium is there, a few at a time, and the media_uid of each. rows_of: sample_uid -> texts."""
    owners = read_part(media, ["media_uid", "sample_uid", "role", "status"]).to_pylist()
    there = [at for at, row in enumerate(owners)
             if row["role"] == "primary" and row["status"] == "ok" and row["sample_uid"] in rows_of]  # fmt: skip
    pictures: Iterator[np.ndarray | None] = iter([None] * len(there))
    if generator.short_side_px is not None and there:
        source = "frame" if "frame" in pq.read_schema(media).names else "bytes"
        encoded = Lazily(read_part(media, [source]).column(0).take(pa.array(there)))
        views = [View(generator.short_side_px)]
        pictures = decode_pool(limits, num_decoders).map(encoded, views, _pixels, ahead=AT_A_TIME)
    for start in range(0, len(there), AT_A_TIME):
        several = [owners[at] for at in there[start : start + AT_A_TIME]]
        samples = []
        for row in several:
            links = rows_of[row["sample_uid"]]
            texts = [text for text in links if text["text"] is not None]
            samples.append(Sample(row["sample_uid"], texts, next(pictures), links))
        yield samples, [row["media_uid"] for row in several]


def _pixels(decoded: Any) -> np.ndarray:
    return np.array(decoded.views[0])


def _rows(
    generator: Generator, sample: Sample, medium: str, found: Sequence[Written], before: Sequence[Row]
) -> list[Row]:
    """What a generator wrote about a sample as rows of texts. before: those that the sample has. Raises ValueError for
    a parent that is none of the sample's texts."""
    parents = {row["text_uid"]: row for row in sample.texts}
    known = {row["text_uid"] for row in before}
    rows: list[Row] = []
    for each in found:
        if each.parent is not None and each.parent not in parents:
            raise ValueError(
                f"{generator.import_path()} names {each.parent!r} as a parent, which is no text of {sample.sample_uid}"
            )
        parent = parents[each.parent] if each.parent is not None else _stands_beside(sample, each.language)
        text, sizes = _sheared(generator, each.text.strip(), parent)
        name = uid("text", sample.sample_uid, text)
        if not text or name in known:
            continue
        known.add(name)
        languages = [each.language] if each.language else []
        own = {"text_uid": name, "sample_uid": sample.sample_uid, "text": text, "text_source": generator.source,
               "language_claimed": each.language, "languages_claimed": languages,
               "position": len(before) + len(rows), "generator": generator.import_path(),
               "generator_revision": generator.revision(), "prompt_hash": prompt_hash(each.prompt),
               "parent_text_uid": parent["text_uid"] if parent else None, "generated_for": medium}  # fmt: skip
        rows.append(own | sizes)
    return rows


def _stands_beside(sample: Sample, language: str | None) -> Any:
    """The first text of the sample in that language, or the first of all; None without any."""
    spoken = primary(language) if language else None
    same = (row for row in sample.texts if row["language_claimed"] and primary(row["language_claimed"]) == spoken)
    return next(same, next(iter(sample.texts), None))


def _sheared(generator: Generator, text: str, parent: Any) -> tuple[str, Row]:
    """The text as it is kept, and what is said of its length."""
    if generator.shear is None or parent is None:
        return text, {"is_sheared": False}
    count = counter(generator.shear)
    most = count(parent["text"])
    cut = sheared(text, most, generator.shear)
    return cut, {"is_sheared": cut != text, "num_tokens": count(cut), "parent_num_tokens": most,
                 "tokenizer": generator.shear}  # fmt: skip


def _beside(known: pa.Table, made: dict[str, list[Row]]) -> pa.Table:
    """The texts of a part, those of each sample followed by what was written about it."""
    schema = pa.schema([*known.schema, *GENERATED])
    new = [row for rows in made.values() for row in rows]
    written = pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in new], schema=schema)
    blank = [pa.nulls(known.num_rows, field.type) for field in GENERATED]
    whole = pa.table([*known.columns, *blank], schema=schema)
    last = {sample: at for at, sample in enumerate(known.column("sample_uid").to_pylist())}
    places = np.array([*range(known.num_rows), *(last[row["sample_uid"]] for row in new)], np.int64)
    order = np.argsort(places, kind="stable")  # what was written comes behind the last text of its sample
    return pa.concat_tables([whole, written]).take(pa.array(order)).combine_chunks()
