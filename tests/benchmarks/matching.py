"""Metadata matching: captions per second per core beside pyahocorasick as MetaCLIP uses it, ids compared.

    python tests/benchmarks/matching.py [--captions 200000] [--entries 500000] [--rounds 7]

Needs pyahocorasick (`pip install --no-deps pyahocorasick`), which the project itself does not. Both match the same
captions with the same 500,000 entries in the published way (`strict`); rounds alternate, rates are of CPU time, the
ratio is that of the medians. pyahocorasick gets a twelfth of the captions a round, so that a round takes about as long.
Memory: what a process of each grows by when it makes, or maps, its matcher.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ahocorasick
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from curation import array_file  # noqa: E402
from curation.entries import EntryMatcher, build_tables, shared_matcher  # noqa: E402
from curation.entry_forms import padded, spaced  # noqa: E402
from tests.benchmarks.captions import entries as make_entries  # noqa: E402
from tests.benchmarks.captions import lines  # noqa: E402

GOAL_RATIO, GOAL_BYTES = 12, 30e6


def automaton(entries: list[str]) -> ahocorasick.Automaton:
    made = ahocorasick.Automaton()
    for number, entry in enumerate(entries):
        made.add_word(padded(entry), (number, entry))
    made.make_automaton()
    return made


def peer(made: ahocorasick.Automaton, texts: list[str]) -> list[set[int]]:
    """MetaCLIP's loop: space the text, walk the automaton, collect the ids."""
    return [{number for _, (number, _) in made.iter(spaced(text))} for text in texts]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def resident(kind: str) -> int:
    """Bytes of this process by the kernel's account: Rss, or Private_Dirty (what no other process can share)."""
    lines_of = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines_of if line.startswith(f"{kind}:"))


def grown(work: Callable[[], Any]) -> tuple[float, float, float]:
    """Seconds that `work` takes in a process of its own, and by how much its Rss and its private memory grow."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        before, own = resident("Rss"), resident("Private_Dirty")
        begin = time.perf_counter()
        kept = work()
        seconds = time.perf_counter() - begin
        os.write(write, f"{seconds} {resident('Rss') - before} {resident('Private_Dirty') - own}".encode())
        del kept
        os._exit(0)
    os.waitpid(child, 0)
    seconds, rss, private = os.read(read, 200).decode().split()
    return float(seconds), float(rss), float(private)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=200_000)
    parser.add_argument("--entries", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    texts = lines(options.captions)
    entries = make_entries(texts, options.entries)
    column, few = pa.array(texts), texts[: len(texts) // 12]
    print(f"{len(texts):,} captions, {len(entries):,} entries")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "strict.arrays"
        seconds, tables = timed(lambda: build_tables(entries, "strict"))
        seconds, tables = timed(lambda: build_tables(entries, "strict"))  # the first time compiles
        array_file.save(path, tables)
        EntryMatcher("strict", tables).match(column[:10])
        size = sum(array.nbytes for array in tables.values())
        del tables
        build, made = timed(lambda: automaton(entries))
        mapped = grown(lambda: shared_matcher(Path(folder), path.name, "strict", 0, list).match(column[:1000]))
        own = grown(lambda: peer(automaton(entries), few[:1000]))
        print(f"tamis: built in {seconds:.2f} s; table {size / 1e6:.1f} MB, mapped in {1000 * mapped[0]:.0f} ms, "
              f"private memory of a worker {mapped[2] / 1e6:.1f} MB")  # fmt: skip
        print(f"pyahocorasick: built in {build:.2f} s; private memory of a worker {own[2] / 1e6:.0f} MB")

        matcher = shared_matcher(Path(folder), path.name, "strict", 0, list)
        ours, theirs = [], []
        for _ in range(options.rounds):
            cost, found = timed(lambda: matcher.match(column))
            ours.append(len(texts) / cost)
            cost, expected = timed(lambda: peer(made, few))
            theirs.append(len(few) / cost)
            print(f"  tamis {ours[-1]:>9,.0f}/s   pyahocorasick {theirs[-1]:>9,.0f}/s   {ours[-1] / theirs[-1]:.1f}x")
    assert found[: len(few)].to_pylist() == [sorted(ids) for ids in expected], "the ids differ"
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"identical ids, {len(found.flatten()) / len(texts):.1f} a caption; {ratio:.1f} times pyahocorasick")
    if ratio < GOAL_RATIO or size > GOAL_BYTES:
        raise SystemExit(f"below the goal: {GOAL_RATIO} times in at most {GOAL_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
