"""Balancing: texts per second per core beside a numpy sampler in MetaCLIP's manner, and the whole rule in a policy.

    python tests/benchmarks/balance.py [--texts 10000000] [--policy-texts 2000000] [--rounds 5]

The sampler is written here from the published description (arXiv 2309.16671, Algorithm 1): the matches of all texts as
two flat columns, text and entry; the entries' counts by np.unique; one uniform draw for each match, which succeeds with
t / max(t, count); the texts of all draws that succeeded, each once (np.unique). Both count and sample the
same texts; rounds alternate, rates are of CPU time, the ratio is that of the medians. Memory is what a process that
does it adds to what its input takes.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from curation.balance import EntryCounts, KeepProbability, thresholds  # noqa: E402
from curation.policy import Balance  # noqa: E402
from pipelines.decide import Decider  # noqa: E402
from pipelines.solve import solve  # noqa: E402
from tests.pipelines.table_rows import TableRows  # noqa: E402

GOAL_RATIO = 15
NUM_ENTRIES, MATCHES = 500_000, 5
T = 2_000
ROWS_AT_A_TIME = 65_536  # what fits into the processor's cache, as a database hands over rows


def texts(number: int) -> tuple[pa.ListArray, np.ndarray]:
    """Lists of 0 to 10 entries, 5 on average, whose frequencies fall as 1 / rank; and the draws."""
    rng = np.random.default_rng(0)
    offsets = np.zeros(number + 1, np.int32)
    np.cumsum(rng.integers(0, 2 * MATCHES + 1, number), out=offsets[1:])
    ids = np.exp(rng.random(offsets[-1]) * np.log(NUM_ENTRIES)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids)), rng.random(number)


def ours(entries: pa.ListArray, draws: np.ndarray) -> np.ndarray:
    counts = EntryCounts()
    counts.add(entries)
    probability = KeepProbability(counts, thresholds(counts, T))
    kept = []
    for first in range(0, len(entries), ROWS_AT_A_TIME):
        some = probability(entries.slice(first, ROWS_AT_A_TIME)).to_numpy()
        kept.append(first + np.flatnonzero(draws[first : first + some.size] < some))
    return np.concatenate(kept)


def sampler(text_of: np.ndarray, entry_of: np.ndarray, seed: int) -> np.ndarray:
    """The texts kept, as described above."""
    found, number = np.unique(entry_of, return_counts=True)
    counts = np.zeros(NUM_ENTRIES, np.int64)
    counts[found] = number
    probability = T / np.maximum(T, counts)
    drawn = np.random.default_rng(seed).random(entry_of.size) < probability[entry_of]
    return np.unique(text_of[drawn])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def peak(work: Callable[[], Any]) -> float:
    """Bytes that `work` adds to the peak of a process of its own."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        os.write(write, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return 1024 * float(os.read(read, 100).decode())


def in_a_policy(entries: pa.ListArray, draws: np.ndarray) -> tuple[float, int]:
    """CPU seconds of the rule `balance` in a policy, on one thread, and how many texts it keeps."""
    uids = pc.cast(pa.array(np.arange(len(entries))), pa.string())
    rows = TableRows(pa.table({"text_uid": uids, "entry_ids": entries, "draw": draws}))
    with Decider(rows, [Balance(balance="metaclip", t=T)], threads=1) as decider:

        def rule() -> int:
            solve(decider)
            return sum(pc.sum(kept).as_py() or 0 for _, kept in decider.each(decider.kept))

        return timed(rule)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=10_000_000)
    parser.add_argument("--policy-texts", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    entries, draws = texts(options.texts)
    lengths = np.diff(entries.offsets.to_numpy())
    text_of, entry_of = np.repeat(np.arange(len(entries)), lengths), entries.flatten().to_numpy()
    ours(entries.slice(0, 1000), draws[:1000])  # compiles
    print(f"{len(entries):,} texts, {len(entries.flatten()):,} matches, {NUM_ENTRIES:,} entries, t = {T:,}")
    memory = peak(lambda: ours(entries, draws)), peak(lambda: sampler(text_of, entry_of, 0))
    print(f"memory beyond the input: tamis {memory[0] / 1e6:,.0f} MB; sampler {memory[1] / 1e6:,.0f} MB")
    rates: tuple[list[float], list[float]] = [], []
    for number in range(options.rounds):
        seconds, kept = timed(lambda: ours(entries, draws))
        rates[0].append(len(entries) / seconds)
        seconds, drawn = timed(lambda n=number: sampler(text_of, entry_of, n))
        rates[1].append(len(entries) / seconds)
        print(
            f"  tamis {rates[0][-1]:>12,.0f}/s   sampler {rates[1][-1]:>10,.0f}/s   {rates[0][-1] / rates[1][-1]:.1f}x"
        )
    print(f"tamis keeps {len(kept):,} texts, the sampler {len(drawn):,}")
    assert abs(len(kept) - len(drawn)) < 6 * len(entries) ** 0.5, "they do not sample alike"
    ratio = statistics.median(rates[0]) / statistics.median(rates[1])
    print(f"{ratio:.1f} times the sampler")
    part = options.policy_texts
    seconds, number_kept = in_a_policy(entries.slice(0, part), draws[:part])
    print(f"the whole rule in a policy: {part / seconds:,.0f} texts/s on one thread, {number_kept:,} of {part:,} kept")
    assert number_kept == len(ours(entries.slice(0, part), draws[:part])), "the policy keeps other texts"
    if ratio < GOAL_RATIO:
        raise SystemExit(f"below the goal: {GOAL_RATIO} times")


if __name__ == "__main__":
    main()
