"""Re-threshold: new decisions from stored signals after a cut has changed, on a pool that this makes up.

    python tests/benchmarks/rethreshold.py --rows 10000000 --part-samples 10000

Makes a store whose tables have the layout of a real one (media without bytes; one text a sample but for one in fifty;
30% of the media in duplicate groups of 3, and as many texts; 1% of both in an evaluation set; up to 6 entries a text
from a Zipf law over 100,000), then runs the stage
`select` for several policies, each in a fresh process, and reports wall and CPU seconds and peak memory (with pages of
mapped files; in brackets without). The first use of a column or of a duplicate search costs more than the next
(pipelines/column_cache.py): in the order of POLICIES each is made ready by those before it; with --cold every policy is
run without anything kept, then again, when only its own figures are new. With --check the decisions are made again with
one thread, and must have the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from curation.schema import MEDIA, TEXTS  # noqa: E402
from curation.table import write_part  # noqa: E402
from pipelines.views import EVALUATION_MATCHES  # noqa: E402

WORDS = ["a", "red", "green", "old", "small", "house", "boat", "cat", "dog", "tree", "river", "market", "on", "under",
         "photo", "painting", "of", "the", "two", "three", "winter", "wooden", "bridge", "bird"]  # fmt: skip
ENTRIES = 100_000
SIGNALS = {"language": "text", "caption_statistics": "text", "clip_score": "text", "metadata_entries": "text",
           "keyed_draw": "text", "probe": "media"}  # fmt: skip

CHEAP = [
    {"rule": "downloaded", "keep": "status = 'ok'"},
    {"rule": "english", "keep": "language = 'en' and language_prob >= $least", "at": {"least": 0.3}},
    {"rule": "long_enough", "keep": "num_words > 2 and num_characters > 5"},
    {"rule": "large_enough", "keep": "short_side_px >= $px", "at": {"px": 200}},
    {"rule": "not_too_long", "keep": "aspect_ratio <= 3"},
]
DEDUPE = {"dedupe": "near_duplicate"}
A_LANGUAGE = {"quota": "spoken", "per": "language", "at_most": 1000}
TEXTS_ONCE = {"dedupe": "same_text", "of": "texts", "prefer": "num_characters desc, clip_score desc"}
HELD = {"decontaminate": "benchmarks", "against": ["a_set"]}


def top(fraction: float, among: str = "passed") -> dict[str, Any]:
    return {"top": "best", "by": "clip_score", "fraction": fraction, "among": among}


def cheap(px: int) -> list[dict[str, Any]]:
    return [{**rule, "at": {"px": px}} if rule["rule"] == "large_enough" else rule for rule in CHEAP]


def clip(least: float) -> dict[str, Any]:
    return {"rule": "clip", "keep": "clip_score >= $least", "at": {"least": least}}


POLICIES: dict[str, list[dict[str, Any]]] = {
    "threshold 0.28": [*CHEAP, clip(0.28)],
    "threshold 0.30": [*CHEAP, clip(0.3)],
    "top 30% of what passed": [*CHEAP, top(0.3)],
    "top 20% of what passed": [*CHEAP, top(0.2)],
    "top 30% of the pool": [*CHEAP, top(0.3, "all")],
    "quota of 10 samples a text": [*CHEAP, {"quota": "text", "per": "text", "at_most": 10}],
    "dedupe, top 30%": [*CHEAP, DEDUPE, top(0.3)],
    "dedupe, top 20%": [*CHEAP, DEDUPE, top(0.2)],
    "larger pictures, dedupe, top 20%": [*cheap(300), DEDUPE, top(0.2)],
    "dedupe, top 20%, balance": [*CHEAP, DEDUPE, top(0.2), {"balance": "metaclip", "t": 2000}],
    "dedupe, top 30%, balance": [*CHEAP, DEDUPE, top(0.3), {"balance": "metaclip", "t": 2000}],
    "quota of 1,000 samples a language": [CHEAP[0], A_LANGUAGE],
    "languages balanced": [CHEAP[0], {"balance": "spoken", "by": "language", "exponent": 0.5, "fraction": 0.3}],
    "weight": [CHEAP[0], {"weight": "drawn", "value": "clip_score"}],
    "the best 1,000 samples a language": [CHEAP[0], {**A_LANGUAGE, "prefer": "clip_score desc"}],
    "quota of 2,000 samples a language": [CHEAP[0], {**A_LANGUAGE, "at_most": 2000}],
    "quota behind a threshold": [CHEAP[0], clip(0.25), A_LANGUAGE],
    "copies of texts": [CHEAP[0], TEXTS_ONCE],
    "copies of texts, other threshold": [CHEAP[0], clip(0.25), TEXTS_ONCE],
    "decontaminated": [CHEAP[0], HELD],
    "decontaminated, other threshold": [CHEAP[0], clip(0.25), HELD],
}
"""In this order: a policy is made ready by those before it as it would be by the work of a day."""


def uids(rng: np.random.Generator, count: int) -> pa.Array:
    """Random uids of 32 hex digits."""
    offsets = pa.py_buffer(np.arange(0, 32 * count + 1, 32, dtype=np.int32))
    return pa.StringArray.from_buffers(count, offsets, pa.py_buffer(rng.bytes(16 * count).hex().encode()))


def some(rng: np.random.Generator, values: list[str], count: int, shares: list[float] | None = None) -> pa.Array:
    return pa.DictionaryArray.from_arrays(
        pa.array(rng.choice(len(values), count, p=shares).astype(np.int32)), pa.array(values)
    ).cast(pa.string())


def make_part(root: str, part: int, samples: int, light: bool) -> dict[str, Any]:
    """Write all tables of one part of the pool; returns their paths, and the uids of media and texts in groups."""
    rng = np.random.default_rng([7, part])
    tables = Path(root) / "tables"
    key = hashlib.sha256(f"part {part}".encode()).hexdigest()
    sample, medium = uids(rng, samples), uids(rng, samples)
    twice = np.sort(np.concatenate([np.arange(samples), rng.choice(samples, samples // 50, replace=False)]))
    count = len(twice)
    words = [some(rng, WORDS, count) for _ in range(6)]
    text, text_uid = pc.binary_join_element_wise(*words, " "), uids(rng, count)
    width, height = rng.integers(50, 1200, samples).astype(np.int32), rng.integers(50, 1200, samples).astype(np.int32)
    made: dict[str, dict[str, Any]] = {
        "texts": {"text_uid": text_uid, "sample_uid": sample.take(pa.array(twice)), "text": text},
        "media": {
            "media_uid": medium,
            "sample_uid": sample,
            "role": ["primary"] * samples,
            "status": some(rng, ["ok", "failed"], samples, [0.8, 0.2]),
            "size_bytes": rng.integers(5_000, 500_000, samples),
            "width_px": width,
            "height_px": height,
        },
        "language": {
            "text_uid": text_uid,
            "language": some(rng, ["en", "de", "zh", "fr", "es"], count, [0.45, 0.2, 0.15, 0.1, 0.1]),
            "language_prob": rng.random(count, dtype=np.float32),
        },
        "caption_statistics": {
            "text_uid": text_uid,
            "num_words": np.full(count, 6, np.int32),
            "num_characters": pc.utf8_length(text),
        },
        "clip_score": {"text_uid": text_uid, "clip_score": rng.normal(0.27, 0.05, count).astype(np.float32)},
        "metadata_entries": {"text_uid": text_uid, "entry_ids": entry_lists(rng, count)},
        "keyed_draw": {"text_uid": text_uid, "draw": rng.random(count)},
        "probe": {
            "media_uid": medium,
            "short_side_px": np.minimum(width, height),
            "aspect_ratio": (np.maximum(width, height) / np.minimum(width, height)).astype(np.float32),
        },
    }
    paths = {}
    for name, columns in made.items():
        if light and name in ("metadata_entries", "keyed_draw"):
            continue
        if light and name == "texts":
            columns.pop("text")
        base = {"texts": TEXTS, "media": MEDIA}.get(name)
        if base is not None:
            columns = {f.name: columns.get(f.name, pa.nulls(len(columns["sample_uid"]), f.type)) for f in base}
            table = pa.table(columns).cast(base)
        else:
            nothing = pa.nulls(len(next(iter(columns.values()))), pa.string())
            columns |= dict.fromkeys([next(iter(columns))], nothing) if light else {}  # the uid, which nobody reads
            table = pa.table({**columns, "reason": nothing})
        folder = tables / (name if base is not None else f"signal_{name}")
        plain = ["bytes"] if name == "media" else []
        paths[name] = write_part(folder, part, key, table, plain=plain).path.relative_to(root).as_posix()
    chosen, texts_chosen = (rng.choice(num, num * 3 // 10, replace=False) for num in (samples, count))
    return {"paths": paths, "media": medium.take(pa.array(chosen)), "texts": text_uid.take(pa.array(texts_chosen))}


def held(level: str, uids: pa.Array) -> pa.Table:
    """Matches of these with an evaluation set, as the stage decontaminate writes them."""
    num = len(uids)
    columns = {"rule": ["benchmarks"] * num, "level": [level] * num, "uid": uids, "evaluation_set": ["a_set"] * num,
               "item": [f"item {n % 5000}" for n in range(num)], "kind": ["picture (same)"] * num,
               "distance": np.arange(num, dtype=np.int32) % 9, "similarity": pa.nulls(num, pa.float64())}  # fmt: skip
    return pa.table(columns, schema=EVALUATION_MATCHES)


def written(root: Path, name: str, table: pa.Table) -> str:
    """A table of one part; its path below the store."""
    return write_part(root / "tables" / name, 0, "d" * 64, table).path.relative_to(root).as_posix()


def entry_lists(rng: np.random.Generator, count: int) -> pa.Array:
    lengths = rng.integers(0, 7, count)
    entries = np.minimum(rng.zipf(1.3, int(lengths.sum())), ENTRIES).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)), entries)


def make_store(root: Path, rows: int, part_samples: int, light: bool) -> None:
    """A store with the tables of `rows` texts or a few more."""
    parts = max(1, rows // (part_samples + part_samples // 50))
    with ProcessPoolExecutor(2) as executor:
        given = [str(root)] * parts, range(parts), [part_samples] * parts, [light] * parts
        made = list(executor.map(make_part, *given, chunksize=4))
    names = {name: [each["paths"][name] for each in made] for name in made[0]["paths"]}
    rng = np.random.default_rng(8)
    tables = {"media": names["media"], **{f"signal_{name}": names[name] for name in SIGNALS if name in names}}
    matches = []
    for level, table, uid, group in (
        ("media", "duplicates", "media_uid", "duplicate_group"),
        ("text", "text_duplicates", "text_uid", "text_duplicate_group"),
    ):
        grouped = pa.concat_arrays([each.pop("media" if level == "media" else "texts") for each in made])
        grouped = grouped.take(pa.array(rng.permutation(len(grouped))))
        matches.append(held(level, grouped[: len(grouped) // 30]))
        of_three = grouped.take(pa.array(np.arange(len(grouped)) // 3 * 3))
        found = pa.table({uid: grouped, group: of_three}).sort_by(uid)
        tables[table] = [written(root, table, found)]
    tables["evaluation_matches"] = [written(root, "evaluation_matches", pa.concat_tables(matches))]
    signals = {name: level for name, level in SIGNALS.items() if name in names}
    state = {"tables": tables, "signals": signals, "versions": [], "recipe": "benchmark", "policy_name": None}
    (root / "state.json").write_text(json.dumps(state))
    # the links, which only ingest and download read, are left out
    pool = {"parts": [{"index": i, "links": "", "texts": path} for i, path in enumerate(names["texts"])], "sources": []}
    (root / "pool").mkdir()
    (root / "pool" / "000001.json").write_text(json.dumps(pool))
    (root / "store.json").write_text(json.dumps({"format": "tamis.store/1"}))


def select_once(root: Path, policy: list[dict[str, Any]], threads: int) -> dict[str, Any]:
    """Run the stage in this process."""
    from pipelines.recipe import Recipe
    from pipelines.select import select
    from pipelines.stage import Run
    from pipelines.store import Store
    from pipelines.workers import SerialWorkers

    store = Store.open(root)
    run = Run(Recipe.model_validate({"name": "bench", "policy": policy}), store, SerialWorkers(), store.state())
    begun, cpu = time.monotonic(), time.process_time()
    with AnonymousMemory() as anonymous:
        counts = select(run, threads)
    took, cpu = time.monotonic() - begun, time.process_time() - cpu
    state = hashlib.sha256()
    for path in store.files(run.state, "decisions"):
        state.update(hashlib.sha256(path.read_bytes()).digest())
        path.unlink()
    # not ru_maxrss, which begins with that of the process that started this one
    peak = {"peak_gib": gib("VmHWM"), "anonymous_gib": anonymous.peak}
    return {**counts, "wall_s": took, "cpu_s": cpu, **peak, "sha256": state.hexdigest()}


def gib(field: str) -> float:
    """A line of the kernel's account of this process."""
    (kb,) = re.findall(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kb) / 2**20


class AnonymousMemory:
    """A context manager: the most memory of this process that is no page of a file, looked at every 50 ms."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self.peak = max(self.peak, gib("RssAnon"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--part-samples", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--store", type=Path, help="where the store is made, or was made before")
    parser.add_argument(
        "--light",
        action="store_true",
        help="a store without captions, entries, draws, and uids in the tables of signals (selection reads none)",
    )
    parser.add_argument("--policy", action="append", help="only these, by name")
    parser.add_argument("--check", action="store_true", help="again with one thread: the same bytes?")
    parser.add_argument("--cold", action="store_true", help="each without what selections before it have kept, too")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(select_once(options.store, POLICIES[options.one], options.threads)))
        return
    root = options.store or Path(f"rethreshold-{options.rows}")
    if not (root / "store.json").exists():
        begun = time.monotonic()
        root.mkdir(parents=True, exist_ok=True)
        make_store(root, options.rows, options.part_samples, options.light)
        print(f"store made in {time.monotonic() - begun:.0f} s")
    print(f"load {os.getloadavg()[0]:.1f}, {options.threads} threads")
    for name in options.policy or POLICIES:
        line = f"{name:33}"
        if options.cold:
            shutil.rmtree(root / "cache" / "columns", ignore_errors=True)
            line += f" cold {shown(run_alone(root, name, options.threads))}; warm"
        found = run_alone(root, name, options.threads)
        line += f" {shown(found)}; {found['texts']:,} texts, {found['kept']:,} kept"
        if options.check:
            shutil.rmtree(root / "cache" / "columns", ignore_errors=True)
            same = run_alone(root, name, 1)["sha256"] == found["sha256"]
            line += ", the same bytes with 1 thread" if same else ", OTHER BYTES WITH 1 THREAD"
        print(line, flush=True)


def shown(found: dict[str, Any]) -> str:
    return (
        f"{found['wall_s']:.1f} s wall, {found['cpu_s']:.1f} s CPU, {found['peak_gib']:.2f} GiB "
        f"({found['anonymous_gib']:.2f} anonymous)"
    )


def run_alone(root: Path, name: str, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--store", str(root), "--one", name, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
