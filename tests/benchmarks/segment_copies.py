"""The search for copies among very many segments: CPU seconds, peak memory, recall against planted copies.

    python tests/benchmarks/segment_copies.py [--segments 100000] [--seconds 10] [--kinds video audio]

No media: signatures are made as those of real ones look. Frames' hashes walk (a few bits a frame, as those of a moving
camera do), sounds' hashes repeat (neighbouring windows overlap by 94%). Every tenth segment is a copy of another, cut
off by up to 3 s at its beginning (so with an offset), with some bits flipped as encoding anew does: of pictures 3 of
64, of sounds 3 of 32 in half of its windows. Goes through `pipelines.dedupe_segments`, as a run does, on one process.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from curation.av.fingerprints import AUDIO_HOP_S, FRAME_RATE_HZ
from curation.duplicate_search import SegmentSearch
from curation.signals.media_fingerprint import MediaFingerprint
from curation.step import digest
from curation.table import write_part
from pipelines.dedupe_segments import _pairs
from pipelines.stage import Run
from pipelines.store import State, Store
from pipelines.workers import SerialWorkers

SCHEMA = pa.schema([("media_uid", pa.string()), *MediaFingerprint().writes()])
PER_PART = 2_000


def walk(rng: np.random.Generator, num: int, flips: float, bits: int) -> np.ndarray:
    """Hashes each of which differs from the one before in `flips` bits on average: uint64 [num]."""
    kind = np.dtype("<u8") if bits == 64 else np.dtype("<u4")
    changes = np.packbits(rng.random((num, bits)) < flips / bits, axis=1, bitorder="little").view(kind)[:, 0]
    changes[0] = rng.integers(0, 2**bits - 1, dtype=kind, endpoint=True)
    return np.asarray(np.bitwise_xor.accumulate(changes))


def noisy(rng: np.random.Generator, hashes: np.ndarray, flips: float, share: float) -> np.ndarray:
    """With `flips` bits of `share` of them turned."""
    bits = 8 * hashes.dtype.itemsize
    turned = (rng.random((len(hashes), bits)) < flips / bits) & (rng.random((len(hashes), 1)) < share)
    return np.asarray(hashes ^ np.packbits(turned, axis=1, bitorder="little").view(hashes.dtype)[:, 0])


def pool(folder: Path, num: int, seconds: float) -> tuple[list[Path], dict[tuple[str, str], float], dict[str, str]]:
    """Parts of signatures; planted pairs with their offset in seconds; segment -> what it is a copy of, or itself."""
    rng = np.random.default_rng(0)
    files, planted, origin = [], dict[tuple[str, str], float](), dict[str, str]()
    num_frames, num_sounds = round(seconds * FRAME_RATE_HZ), round(seconds / AUDIO_HOP_S)
    for start in range(0, num, PER_PART):
        rows: list[dict[str, Any]] = []
        for number in range(start, min(num, start + PER_PART)):
            uid = rng.bytes(16).hex()
            origin[uid] = uid
            if number % 10 == 9:
                of = rows[int(rng.integers(len(rows)))]
                late = int(rng.integers(0, 16))
                off_s = late / FRAME_RATE_HZ
                frames = noisy(rng, np.frombuffer(of["video_fingerprint"], "<u8")[late:], 3, 1.0)
                sounds = noisy(rng, np.frombuffer(of["audio_fingerprint"], "<u4")[round(off_s / AUDIO_HOP_S) :], 3, 0.5)
                smaller, larger = sorted((uid, of["media_uid"]))
                planted[smaller, larger] = off_s
                origin[uid] = origin[of["media_uid"]]
            else:
                frames, sounds = walk(rng, num_frames, 4, 64), walk(rng, num_sounds, 3, 32)
            rows.append(
                {
                    "media_uid": uid,
                    "video_fingerprint": frames.tobytes(),
                    "video_known": np.ones(len(frames), bool).tobytes(),
                    "audio_fingerprint": sounds.tobytes(),
                    "audio_known": np.ones(len(sounds), bool).tobytes(),
                    "audio_start_s": 0.0,
                }
            )
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        files.append(write_part(folder, start // PER_PART, digest("part", start), table).path)
    return files, planted, origin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--kinds", nargs="+", choices=["video", "audio"], default=["video", "audio"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files, planted, origin = pool(Path(folder) / "parts", args.segments, args.seconds)
        run = Run(None, Store.create(Path(folder) / "store"), SerialWorkers(), State(), say=lambda _: None)  # type: ignore[arg-type]
        print(f"{args.segments} segments of {args.seconds:g} s, {len(planted)} copies planted, {time.strftime('%F')}\n")
        print("| by | CPU s | peak memory so far | recall | offset right | distinct joined |\n" + "|---" * 6 + "|")
        for kind in args.kinds:
            before = time.process_time()
            pairs = _pairs(run, files, kind, SegmentSearch(min_share=0.5))
            spent = time.process_time() - before
            found = {(pair["media_uid"], pair["other_uid"]): pair["offset_s"] for pair in pairs}
            hits = [abs(abs(found[pair]) - off_s) <= 0.2 for pair, off_s in planted.items() if pair in found]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            wrong = sum(origin[a] != origin[b] for a, b in found)
            figures = f"{len(hits) / len(planted):.4f} | {np.mean(hits) if hits else 0:.4f} | {wrong}"
            print(f"| {kind} | {spent:.0f} | {peak:.2f} GB | {figures} |", flush=True)


if __name__ == "__main__":
    main()
