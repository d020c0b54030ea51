"""The demo's films: their truth is true, and the main job finds it again."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation.av.subtitles import parse
from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, FrameTap, Wanted
from tests.stores import ROOT, digests, run


@pytest.fixture(scope="module")
def films(demo_scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import films

    assert demo_scripts
    out = tmp_path_factory.mktemp("films")
    counts = films.build(out, num_films=1, num_copies=1, synthetic=7)
    assert counts == films.build(out, num_films=1, num_copies=1, synthetic=7)
    assert counts["links"] == 1 + 1 + len(films.BROKEN)
    return out


def truth(films: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(films / "truth.parquet").to_pylist()
    return rows


def body_of(films: Path, url: str) -> bytes:
    import json

    route = json.loads((films / "routes.json").read_text())["routes"]["/f/" + url.split("/f/")[1]]
    return (films / route["file"]).read_bytes()


def test_the_truth_is_what_the_files_hold(films: Path) -> None:
    links = {row["url"]: row for row in pq.read_table(films / "links.parquet").to_pylist()}
    shots = [row for row in truth(films) if row["start_s"] is not None]
    with AvDecoder() as decoder:
        for url in {row["url"] for row in shots}:
            own = [row for row in shots if row["url"] == url]
            wanted = Wanted(frames=(FrameTap(width_px=32, height_px=24, pixels="gray"),), audio=(AudioTap(16_000),))
            outcome, got = decoder.gather(body_of(films, url), wanted)
            frames, samples = got.frames(), got.samples()
            assert outcome.reason is None
            assert frames is not None
            assert samples is not None
            assert frames.times_s[-1] + 0.04 == pytest.approx(own[-1]["end_s"], abs=0.09)
            assert len(samples.pcm) / 16_000 == pytest.approx(own[-1]["end_s"], abs=0.15)
            change = np.abs(np.diff(frames.pixels.astype(int), axis=0)).mean(axis=(1, 2))
            cuts = [row["start_s"] for row in own[1:]]
            strongest = sorted(frames.times_s[np.argsort(change)[-len(cuts) :] + 1])
            assert strongest == pytest.approx(cuts, abs=0.09)
            cues, num_bad = parse(links[url]["subtitles"])
            assert num_bad == 0
            assert [cue.text for cue in cues] == [row["caption"] for row in own if row["caption"]]


def test_the_same_arguments_give_the_same_films(films: Path, tmp_path: Path) -> None:
    import films as module

    module.build(tmp_path, num_films=1, num_copies=0, synthetic=7)
    made, before = digests(tmp_path / "files"), digests(films / "files")
    assert made.items() <= before.items()
    names = [row for row in truth(tmp_path) if row["start_s"] is not None]
    assert all(a["end_s"] == b["start_s"] for a, b in pairwise(names))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_main_job_finds_what_was_made(demo_scripts: Path, tmp_path: Path) -> None:
    """Ground truth: cuts, texts, offsets of sound and copies in eight containers, and nothing lost."""
    import films
    import score_films
    from server import DemoServer

    assert demo_scripts
    server = DemoServer(tmp_path, port=0)
    films.build(tmp_path, num_films=8, num_copies=8, synthetic=48, base_url=server.url)
    with server:
        run(tmp_path / "store", ROOT / "curation" / "recipes" / "demo_av.yaml", tmp_path / "links.parquet")
    found = score_films.scores(tmp_path, tmp_path / "store")
    assert found["links_lost"] == 0
    assert found["cut_f1"] >= 0.95
    assert found["shots_found"] >= 0.95 * found["shots"]
    assert found["texts_right"] >= 0.98
    assert found["offsets"] >= 6
    assert found["offsets_within_40_ms"] >= 0.95
    assert found["copies"] >= 40
    assert found["copy_recall"] >= 0.95
    assert found["groups_of_different_shots"] == 0
    assert set(found["broken"].values()) <= {"http.4xx_gone", "av.container_not_allowed", "av.corrupt"}
