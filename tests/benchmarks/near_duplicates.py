"""Near-duplicate join of 64-bit hashes side by side with faiss, on this machine, in this run.

    python tests/benchmarks/near_duplicates.py --hashes 1e6 --rounds 3
    python tests/benchmarks/near_duplicates.py --hashes 1e7 --rounds 1 --engines tamis

All pairs of different hashes at Hamming distance 3 and 8 or less, one thread each, engines in turn, each in a process
of its own; medians of the rounds. Hashes are random, 5% of them copies of others with up to the radius bits flipped.

tamis: `curation.lsh.hamming_pairs`. MultiHash: faiss IndexBinaryMultiHash with 4 tables of 16 bits, for radius 8 with
up to 2 flips a table, which finds all pairs too; adding is counted. Flat: faiss IndexBinaryFlat.range_search,
exhaustive. Both faiss indexes look up a sample of the hashes, spread evenly; their time is scaled to all of them
(adding is not scaled), and what they found for the sample has to be what tamis found. Memory is what the peak of the
process rose by. `grown` is `cross_pairs` of 1% new hashes with all others, which an incremental run takes. The stage
with its bucketed files takes more than the join; what it took stands in curation/README.md.
Peer: pip install --no-deps faiss-cpu==1.15.1.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from curation.lsh import cross_pairs, hamming_pairs  # noqa: E402

ENGINES = ("tamis", "multihash", "flat", "grown")
SAMPLE = {("multihash", 3): 100_000, ("multihash", 8): 1_000, ("flat", 3): 2_000, ("flat", 8): 2_000}


def planted(num: int, radius: int) -> np.ndarray:
    """Distinct random hashes (uint64), one in twenty with a copy that is up to `radius` bits away."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, num, dtype=np.uint64)
    copies = num // 20
    hashes[:copies] = hashes[num - copies :]
    for _ in range(radius):
        flipped = rng.integers(0, 64, copies).astype(np.uint64)
        hashes[:copies] ^= np.where(rng.random(copies) < 0.7, np.uint64(1) << flipped, np.uint64(0))
    return rng.permutation(np.unique(hashes))


def sampled(num: int, engine: str, radius: int) -> np.ndarray:
    """Positions that a sampling engine looks up."""
    return np.arange(0, num, max(1, num // SAMPLE[engine, radius]))


def measure(engine: str, num: int, radius: int) -> dict[str, Any]:
    """Run one engine here: CPU seconds for all hashes, MB, and a count that engines can be compared by."""
    hashes = planted(num, radius)
    if engine in ("tamis", "grown"):  # compiles, or loads what was compiled
        hamming_pairs(hashes[:100], radius)
        cross_pairs(hashes[:100], hashes[100:300], radius)
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        if engine == "grown":
            pairs = cross_pairs(hashes[: num // 100], hashes[num // 100 :], radius)
        else:
            pairs = hamming_pairs(hashes, radius)
        seconds = time.process_time() - begin
        found = {"pairs": len(pairs.i)}
        for other in ("multihash", "flat"):
            rows = sampled(len(hashes), other, radius)
            chosen = np.zeros(len(hashes), bool)
            chosen[rows] = True
            found[other] = int(chosen[pairs.i].sum() + chosen[pairs.j].sum()) if engine == "tamis" else 0
    else:
        import faiss

        faiss.omp_set_num_threads(1)
        data = hashes.view(np.uint8).reshape(len(hashes), 8)
        rows = sampled(len(hashes), engine, radius)
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        if engine == "multihash":
            index = faiss.IndexBinaryMultiHash(64, 4, 16)
            index.nflip = 0 if radius == 3 else 2
        else:
            index = faiss.IndexBinaryFlat(64)
        index.add(data)
        added = time.process_time() - begin
        begin = time.process_time()
        limits, _, _ = index.range_search(data[rows], radius + 1)  # finds what is nearer than
        seconds = added + (time.process_time() - begin) * len(hashes) / len(rows)
        found = {engine: int(limits[-1]) - len(rows)}  # each hash finds itself
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mb": (peak - before) / 1024, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", type=float, default=1e6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--radius", type=int, nargs="+", default=[3, 8], choices=[3, 8])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    num = int(given.hashes)
    if given.one:
        print(json.dumps(measure(given.one, num, given.radius[0])))
        return
    print(f"{num:,} hashes of 64 bits, one thread, CPU seconds (median of {given.rounds})")
    for radius in given.radius:
        made: dict[str, list[dict[str, Any]]] = {engine: [] for engine in given.engines}
        for _ in range(given.rounds):
            for engine in given.engines:
                command = [sys.executable, __file__, "--one", engine, "--hashes", str(num), "--radius", str(radius)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                made[engine].append(json.loads(done.stdout))
        ours = statistics.median(each["seconds"] for each in made["tamis"]) if made.get("tamis") else None
        print(f"\ndistance <= {radius}\n  engine       CPU s   hashes/s   times tamis      MB")
        for engine, runs in made.items():
            seconds = statistics.median(each["seconds"] for each in runs)
            memory = statistics.median(each["mb"] for each in runs)
            ratio = f"{seconds / ours:13.1f}" if ours else " " * 13
            print(f"  {engine:10s} {seconds:8.2f} {num / seconds:10,.0f} {ratio} {memory:7.0f}")
        if "tamis" in made:
            print(f"  pairs: {made['tamis'][0]['pairs']:,}")
            for engine in ("multihash", "flat"):
                if engine in made:
                    same = made[engine][0][engine] == made["tamis"][0][engine]
                    print(f"  {engine} finds the same for its sample: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    main()
