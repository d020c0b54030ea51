"""MinHash signatures of short captions side by side with datatrove and rensa, on this machine, in this run.

    python tests/benchmarks/minhash.py --texts 200000 --repeats 5

The texts are lines of 4 to 22 words from the doc strings and comments of Python's standard library and of the packages
beside this project, and a fifth of them again with one word changed. Every engine makes 128 hashes of the 2-word
shingles of each text, in batches of 2,048 texts whose hashes are dropped as they would be once written; the engines
take turns, in CPU seconds of one thread, medians of --repeats rounds:

    tamis       normal form, shingles, signatures: Arrow strings in, a matrix out
    datatrove   MinhashDedupSignature: simplify_text, get_shingles, get_signature, 16 buckets of 8; str.split in the
                place of its spaCy tokenizer, which would take longer (on fewer texts, --datatrove-texts: it is slow)
    rensa       shingles as Python strings (lower case, split), hashed by rensa: RMinHash.update for each text, and
                digest_matrix_from_token_sets for all; and both once more with the making of shingles left out

Then the whole search of near-duplicates (signatures, bands, verification, groups), which is timed for tamis alone.
Memory is how far the peak RSS of a process of its own rises above what the texts take.
Peers: pip install --no-deps datatrove==0.10.1 rensa==0.5.0 loguru tokenizers. One that is missing is said and left out.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

NUM_HASHES = 128
NUM_BUCKETS = 16
BATCH = 2048
LINE = re.compile(r"[A-Za-z][^\n]*")


def read_texts(num: int, seed: int = 0) -> list[str]:
    """`num` different lines, of which a fifth are others with one word changed; the same on one installation."""
    found: dict[str, None] = {}
    wanted = num - num // 5
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        for path in sorted(Path(folder).rglob("*.py")):
            for line in LINE.findall(path.read_text(encoding="utf-8", errors="ignore")):
                words = line.strip(" #'\"").split()
                if 4 <= len(words) <= 22 and sum(word.isalpha() for word in words) * 3 >= 2 * len(words):
                    found.setdefault(" ".join(words))
            if len(found) >= wanted:
                break
        if len(found) >= wanted:
            break
    texts = list(found)[:wanted]
    rng = random.Random(seed)
    for text in rng.sample(texts, min(len(texts), num - wanted)):
        words = text.split()
        words[rng.randrange(len(words))] = "changed"
        texts.append(" ".join(words))
    rng.shuffle(texts)
    return texts


def batched(rows: list[Any]) -> Iterator[list[Any]]:
    """The rows, so many at a time as every engine is given."""
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def tamis_engine(texts: list[str]) -> Callable[[], object]:
    from curation.minhash import signatures
    from curation.shingles import normal_form, shingle_sets

    batches = [pa.array(batch) for batch in batched(texts)]
    signatures(shingle_sets(normal_form(batches[0][:10])), NUM_HASHES)  # compiles

    def work() -> None:
        for batch in batches:
            signatures(shingle_sets(normal_form(batch), distinct=False), NUM_HASHES)

    return work


def datatrove_engine(texts: list[str]) -> Callable[[], object]:
    from datatrove.pipeline.dedup import minhash
    from xxhash import xxh64_intdigest

    split = type("Split", (), {"word_tokenize": staticmethod(str.split)})()
    minhash.load_word_tokenizer = lambda _language: split
    config = minhash.MinhashConfig(n_grams=2, num_buckets=NUM_BUCKETS, hashes_per_bucket=NUM_HASHES // NUM_BUCKETS)
    step = minhash.MinhashDedupSignature("/nonexistent", config)
    step._hash_func = lambda text: xxh64_intdigest(text.encode())  # its default; xxhash 4 takes bytes only

    def work() -> None:
        for text in texts:
            shingles = step.get_shingles(text)
            if len(shingles):
                step.get_signature(shingles)

    return work


def shingled(texts: list[str]) -> list[list[str]]:
    """2-word shingles as Python strings: the least that has to be done to have any."""
    words = [text.lower().split() for text in texts]
    return [[f"{a} {b}" for a, b in pairwise(each)] for each in words]


def rensa_engine(texts: list[str], matrix: bool, ready: bool) -> Callable[[], object]:
    from rensa import RMinHash

    made = list(batched(shingled(texts))) if ready else None

    def of_all() -> None:
        for batch in made or batched(texts):
            RMinHash.digest_matrix_from_token_sets(batch if made else shingled(batch), NUM_HASHES, 42)

    def of_each() -> None:
        for batch in made or batched(texts):
            for shingles in batch if made else shingled(batch):
                one = RMinHash(NUM_HASHES, 42)
                one.update(shingles)
                one.digest()

    return of_all if matrix else of_each


ENGINES: dict[str, Callable[[list[str]], Callable[[], object]]] = {
    "tamis": tamis_engine,
    "datatrove": datatrove_engine,
    "rensa matrix": lambda texts: rensa_engine(texts, matrix=True, ready=False),
    "rensa update": lambda texts: rensa_engine(texts, matrix=False, ready=False),
    "rensa matrix, shingles ready": lambda texts: rensa_engine(texts, matrix=True, ready=True),
    "rensa update, shingles ready": lambda texts: rensa_engine(texts, matrix=False, ready=True),
}


def search(texts: list[str]) -> tuple[float, int, int]:
    """CPU seconds of the whole search, pairs that joined, and texts in groups."""
    from curation.components import connected_components
    from tests.curation.in_memory import near_texts

    begin = time.process_time()
    pairs = near_texts(pa.array(texts), 0.8, 0.99)
    labels = connected_components(len(texts), pairs.i, pairs.j)
    seconds = time.process_time() - begin
    sizes = np.bincount(labels, minlength=len(texts))
    return seconds, len(pairs.i), int(sizes[sizes > 1].sum())


def resident_mb(what: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process; Linux."""
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]


def memory(engine: str, num: int) -> float:
    """MB by which the peak RSS of a new process rises above what it was with the texts and the engine loaded."""
    command = [sys.executable, __file__, "--texts", str(num), "--memory-of", engine]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--datatrove-texts", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-of", choices=[*ENGINES, "search"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    texts = read_texts(given.texts)
    if given.memory_of:
        if given.memory_of == "search":
            search(texts[:100])
            work: Callable[[], object] = lambda: search(texts)  # noqa: E731
        else:
            work = ENGINES[given.memory_of](texts)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident_mb("VmRSS")
        work()
        print(resident_mb("VmHWM") - before)
        return
    words = statistics.mean(len(text.split()) for text in texts)
    print(f"{len(texts):,} texts, {words:.1f} words and {statistics.mean(map(len, texts)):.0f} characters on average")
    ready: dict[str, tuple[Callable[[], object], int]] = {}
    for name, make in ENGINES.items():
        some = texts[: given.datatrove_texts] if name == "datatrove" else texts
        try:
            ready[name] = make(some), len(some)
        except ImportError as missing:
            print(f"{name}: left out, {missing}")
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(given.repeats):
        for name, (work, num) in ready.items():
            begin = time.process_time()
            work()
            seconds[name].append((time.process_time() - begin) / num)
    own = statistics.median(seconds["tamis"])
    print(f"{'signatures, 128 hashes':32} {'texts/s/core':>14} {'us/text':>9} {'tamis is':>10} {'memory MB':>10}")
    for name, (_, num) in ready.items():
        each = statistics.median(seconds[name])
        ratio = f"{each / own:.1f}x"
        print(f"{name:32} {1 / each:>14,.0f} {each * 1e6:>9.2f} {ratio:>10} {memory(name, num):>10.0f}")
    search(texts[:100])
    times = [search(texts) for _ in range(3)]
    each = statistics.median(time for time, _, _ in times) / len(texts)
    memory_mb = memory("search", len(texts))
    print(f"{'tamis, whole search at 0.8':32} {1 / each:>14,.0f} {each * 1e6:>9.2f} {'':>10} {memory_mb:>10.0f}")
    print(f"{times[0][2]:,} texts in groups, joined by {times[0][1]:,} pairs")


if __name__ == "__main__":
    main()
