"""Malformed media through the stages `segment` and `score`: every row ends with a segment or a reason code, none is
lost, and the good ones beside them are what they are without them."""

from __future__ import annotations

import collections
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from curation.av.cutting_up import SegmentOptions
from curation.av.segment_signal import SegmentSignal
from curation.av.segments import Segmentation
from curation.media.av_decode import AvDecoder
from curation.media.av_types import AvLimits
from curation.reasons import Reason
from curation.signals.audio_levels import AudioLevels
from curation.signals.media_fingerprint import MediaFingerprint
from curation.signals.sound_and_picture import SoundAndPicture
from curation.signals.speech_quality import SpeechQuality
from curation.signals.video_motion import VideoMotion
from curation.table import read_part
from pipelines.segment import av_decoder, segment_part
from pipelines.segment_scores import from_segments
from tests.curation.av import malformed
from tests.curation.av.malformed import Malformed
from tests.pipelines.test_segment import sources

LIMITS = AvLimits(timeout_s=60, stall_s=20)
OPTIONS = SegmentOptions(shots=Segmentation(min_s=0.3), min_good_s=0.3, min_good_share=0.2, max_segments=20)
SIGNALS: list[SegmentSignal] = [
    VideoMotion(),
    AudioLevels(),
    SpeechQuality(),
    SoundAndPicture(),
    MediaFingerprint(),
]
CODES = {reason.value for reason in Reason if reason.value.startswith("av.")}
MAX_PEAK_KB = 900_000
"""Resident memory of the decoder's child at its highest: a frame of 4096 x 2304 takes some 60 MB in all its forms."""
MAX_ROW_S = 30.0
"""Of one medium of at most five hours that takes 0.1 MB, on a machine that is shared."""


class Watched(AvDecoder):
    """Notes how long each request took, and what the child's memory was at its highest."""

    def __init__(self, limits: AvLimits) -> None:
        super().__init__(limits)
        self.longest_s, self.peak_kb = 0.0, 0

    def _ask(self, *given: Any) -> Any:
        began = time.monotonic()
        found = super()._ask(*given)
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        if self._child is not None:
            status = Path(f"/proc/{self._child._process.pid}/status").read_text()
            self.peak_kb = max(self.peak_kb, int(status.split("VmHWM:")[1].split()[0]))
        return found


def cut(folder: Path, bodies: list[bytes], monkeypatch: Any, decoder: AvDecoder) -> list[dict[str, Any]]:
    """The rows of segments that come of these bodies, with their signals."""
    monkeypatch.setattr("pipelines.segment.av_decoder", lambda _limits: decoder)
    monkeypatch.setattr("pipelines.segment_scores.av_decoder", lambda _limits: decoder)
    part = sources(folder, list(bodies))
    counts = segment_part(part.path, folder / "segments", 0, "1" * 64, OPTIONS, LIMITS)
    assert counts["rows"] == len(bodies)
    (path,) = (folder / "segments").glob("*.parquet")
    rows = read_part(path).to_pylist()
    scores = from_segments(path, SIGNALS, LIMITS)
    assert {table.num_rows for table in scores.values()} == {len(rows)}
    return rows


def check(rows: list[dict[str, Any]], given: list[Malformed]) -> collections.Counter[tuple[str, str]]:
    """(kind, code) of every body. Each has a row; each row is a segment with bytes or has a code of video and audio."""
    by_source: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_source.setdefault(int(row["source_uid"][1:]), []).append(row)
    assert sorted(by_source) == list(range(len(given))), "lost"
    assert len({row["media_uid"] for row in rows}) == len(rows)
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for number, own in by_source.items():
        for row in own:
            is_good = (row["status"], row["reason"] is None, row["bytes"] is not None)
            assert is_good in (("ok", True, True), ("failed", False, False))
            assert row["reason"] is None or row["reason"] in CODES | {"in.over_limit"}
        codes = {row["reason"] for row in own if row["reason"]}
        is_cut = any(row["status"] == "ok" for row in own)
        assert not (is_cut and given[number].must_fail), given[number].kind
        found[given[number].kind, "ok" if is_cut else min(codes)] += 1
    return found


def comparable(rows: list[dict[str, Any]], numbers: list[int]) -> list[tuple[Any, ...]]:
    """What came of the sources `numbers`, told without their numbers."""
    place = {f"m{number}": position for position, number in enumerate(numbers)}
    kept = [row for row in rows if row["source_uid"] in place]
    return [(place[row["source_uid"]], row["start_s"], row["reason"], row["stored_sha256"]) for row in kept]


def run_mass(folder: Path, num: int, seed: int, monkeypatch: Any) -> None:
    """`num` malformed bodies with a good one after every tenth, all through one decoder."""
    goods = [malformed.seeds()[name] for name in ("mp4", "mkv", "webm", "avi", "ts", "wav", "ogg", "m4a")]
    bodies: list[bytes] = []
    given: list[Malformed] = []
    good_at: list[int] = []
    for number, each in enumerate(malformed.corpus(num, seed)):
        given.append(each)
        if number % 10 == 9:
            good_at.append(len(given))
            given.append(Malformed("good", goods[number // 10 % len(goods)]))
    bodies = [each.body for each in given]
    decoder = Watched(LIMITS)
    with decoder:
        rows = cut(folder / "all", bodies, monkeypatch, decoder)
        alone = cut(folder / "good", [bodies[k] for k in good_at], monkeypatch, decoder)
    found = check(rows, given)
    assert comparable(rows, good_at) == comparable(alone, list(range(len(good_at)))), "a good one suffered"
    assert {code for (kind, code), _ in found.items() if kind == "good"} == {"ok"}
    for (kind, code), count in sorted(found.items()):
        print(f"{kind:32} {code:28} {count}")
    print(f"{len(given)} media, {decoder.num_starts} children, {len(decoder.fatal)} fatal {decoder.fatal.values()}, "
          f"longest request {decoder.longest_s:.1f} s, highest memory {decoder.peak_kb / 1e3:.0f} MB")  # fmt: skip
    assert len(decoder.fatal) <= num // 500, "media that kill their decoder are coded, but they should be rare"
    assert decoder.peak_kb < MAX_PEAK_KB
    assert decoder.longest_s < MAX_ROW_S


def test_malformed_media_are_all_coded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample: a third of the bombs and some of each kind of damage."""
    everything = list(malformed.corpus(360, seed=3, dear=False))
    sample = everything[:12] + everything[12::8]
    monkeypatch.setattr(malformed, "corpus", lambda _num, _seed: iter(sample))
    run_mass(tmp_path, len(sample), 3, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_malformed_media_are_all_coded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    run_mass(tmp_path, 700, seed, monkeypatch)


@contextmanager
def killing(decoder: AvDecoder, every_s: float) -> Iterator[list[int]]:
    """Kills the decoder's child again and again, whatever it works on."""
    stop, killed = threading.Event(), list[int]()

    def work() -> None:
        while not stop.wait(every_s):
            child = decoder._child
            if child is not None and child._process.poll() is None:
                os.kill(child._process.pid, signal.SIGKILL)
                killed.append(child._process.pid)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def test_a_decoder_that_dies_takes_no_other_medium_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its child is killed every half second. A medium whose child died twice has a code; the rest is as without."""
    bodies = [malformed.seeds()[name] for name in ("mp4", "mkv", "avi", "ts", "wav", "m4a", "mov", "flv")]
    with AvDecoder(LIMITS) as calm:
        before = cut(tmp_path / "calm", bodies, monkeypatch, calm)
    with AvDecoder(LIMITS) as decoder, killing(decoder, 0.7) as killed:
        rows = cut(tmp_path / "hunted", bodies, monkeypatch, decoder)
    assert killed
    whole = comparable(before, list(range(len(bodies))))
    survivors = [k for k in range(len(bodies)) if all(r["reason"] is None for r in rows if r["source_uid"] == f"m{k}")]
    assert comparable(rows, survivors) == [
        (survivors.index(place), *rest) for place, *rest in whole if place in survivors
    ]
    lost = {row["reason"] for row in rows if row["reason"]}
    assert all(re.fullmatch(r"av\.decoder_crash", code) for code in lost)
    check(rows, [Malformed("good", body) for body in bodies])


def test_the_decoder_of_a_process_is_one() -> None:
    assert av_decoder(LIMITS) is av_decoder(AvLimits(timeout_s=60, stall_s=20))
