from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.av.segments import Segmentation, Span, Stitching, cuts_of, segment_uid, segments_of, stitched
from curation.step import digest

TIMES = np.arange(0, 1000) * 0.04  # 40 s at 25 Hz
PUBLISHED: dict[str, Segmentation] = {
    # the released run
    "panda-70m": Segmentation(
        threshold=25, split_above_s=7, split_every_s=5, stitching=Stitching(), min_s=2, max_s=1200, above_max="cut"
    ),
    # the paper's setting: a commented line of the released code
    "panda-70m-paper": Segmentation(
        threshold=25,
        split_above_s=7,
        split_every_s=5,
        trim_share=0.1,
        stitching=Stitching(min_to_earlier=0.3),
        min_s=2.5,
        max_s=60,
        above_max="cut",
    ),
    # nothing is published on lengths but that 85% are below 10 s
    "internvid": Segmentation(threshold=27, min_s=0.5, max_s=600, above_max="cut"),
    # PySceneDetect's adaptive detector stands for its cascade of several frame rates
    "openvid": Segmentation(detector="adaptive", threshold=3.0, min_s=2, max_s=60),
    # short videos (Shorts) are taken whole
    "vidal": Segmentation(detector="none", min_s=2, max_s=60, above_max="drop"),
    "koala-36m": Segmentation(detector="koala", min_shot_frames=9, trim_frames=4, min_s=0.3, max_s=3600),
    # NeMo Curator and cosmos-curate (longer shots: equal parts here, a fixed stride and a rest there)
    "curator": Segmentation(detector="transnetv2", threshold=0.4, trim_s=0.5, min_shot_frames=0, min_s=2, max_s=10),
    "cosmos": Segmentation(detector="transnetv2", threshold=0.4, trim_s=0.5, min_shot_frames=48, min_s=2, max_s=60),
    "video2dataset": Segmentation(threshold=27, min_s=0, max_s=3600),
}
"""Published settings; what they leave open is as `Segmentation` has it."""


def _scores(*cuts: int) -> np.ndarray:
    scores = np.ones(1000)
    scores[list(cuts)] = 60.0
    return scores


def _of(settings: Segmentation, *cuts: int) -> list[tuple[float, float]]:
    return [(round(s.start_s, 3), round(s.end_s, 3)) for s in segments_of(TIMES, 40.0, _scores(*cuts), settings)]


def test_shots_become_segments() -> None:
    assert _of(Segmentation(), 100, 500) == [(0.0, 4.0), (4.0, 20.0), (20.0, 40.0)]
    assert _of(Segmentation(), 30, 500) == [(1.2, 20.0), (20.0, 40.0)]  # the first is below 2 s
    plain = PUBLISHED["curator"].changed(detector="content", threshold=27, network=None)
    assert _of(plain, 100) == [
        (0.5, 3.5), (4.5, 13.25), (13.25, 22.0), (22.0, 30.75), (30.75, 39.5),
    ]  # fmt: skip
    assert _of(PUBLISHED["vidal"], 100, 500) == [(0.0, 40.0)]
    assert _of(Segmentation(max_s=10, above_max="cut"), 500) == [(0.0, 10.0), (20.0, 30.0)]
    assert _of(Segmentation(max_s=25, above_max="drop"), 800) == [(32.0, 40.0)]
    assert _of(Segmentation(trim_share=0.1), 500) == [(2.0, 18.0), (22.0, 38.0)]
    assert _of(Segmentation(split_above_s=7, split_every_s=5), 500)[:4] == [(0, 5), (5, 10), (10, 15), (15, 20)]
    assert segments_of(np.zeros(0), 0.0, np.zeros(0), Segmentation()) == []


@pytest.mark.parametrize("name", [name for name in PUBLISHED if PUBLISHED[name].stitching is None])
@given(cuts=st.lists(st.integers(1, 999), max_size=30, unique=True), scale=st.floats(0.2, 30))
def test_laws_of_all_recipes(name: str, cuts: list[int], scale: float) -> None:
    settings, times = PUBLISHED[name], TIMES * scale
    high, low = {"koala": (-5.0, 1.0), "transnetv2": (0.9, 0.1)}.get(settings.detector, (60.0, 1.0))
    scores = np.where(np.isin(np.arange(1000), cuts), high, low)
    spans = segments_of(times, 40.0 * scale, scores, settings)
    assert spans == sorted(spans)
    assert all(a.end_s <= b.start_s + 1e-9 for a, b in pairwise(spans))
    found = cuts_of(scores, settings)
    for span in spans:
        assert settings.min_s - 1e-5 <= span.length_s <= settings.max_s + 1e-5
        assert 0 <= span.start_s < span.end_s <= 40.0 * scale + 1e-9
        inside = [cut for cut in found if span.start_s + 1e-6 < times[cut] < span.end_s - 1e-6]
        assert inside == []


def _features(vectors: dict[float, Sequence[float]]):  # type: ignore[no-untyped-def]
    def of(times: Sequence[float]) -> np.ndarray:
        rows = [vectors[round(time, 2)] for time in times]
        return np.array([np.array(row, np.float32) / np.linalg.norm(row) for row in rows])

    return of


def test_stitching_is_panda_70ms() -> None:
    pieces = [Span(0, 10), Span(10, 20), Span(20, 30), Span(30, 40)]
    vectors = {
        0.5: (1, 0, 0), 9.5: (1, 0.4, 0), 10.5: (1, 0.5, 0), 19.5: (1, 1, 0),  # alike where they touch: one event
        20.5: (0, 0, 1), 29.5: (0, 0.01, 1),  # a still
        30.5: (0, 1, 0), 39.5: (1, -1, 0),  # a transition inside
    }  # fmt: skip
    settings = Segmentation(stitching=Stitching())
    assert stitched(pieces, settings, _features(vectors)) == [Span(0, 20)]
    loose = Segmentation(stitching=Stitching(min_within=0, max_within=2))
    assert stitched(pieces, loose, _features(vectors)) == [Span(0, 20), Span(20, 30), Span(30, 40)]
    apart = Segmentation(stitching=Stitching(max_between=0.0))
    assert stitched(pieces, apart, _features(vectors)) == [Span(0, 10), Span(10, 20)]
    once = Segmentation(stitching=Stitching(max_between=0.0, min_to_earlier=0.9))
    assert stitched(pieces, once, _features(vectors)) == [Span(0, 10)]
    with pytest.raises(ValueError, match="needs features"):
        segments_of(TIMES, 40.0, _scores(), PUBLISHED["panda-70m"])


def test_uids_and_keys() -> None:
    one = segment_uid("a" * 32, Span(0.0, 2.0))
    assert one == segment_uid("a" * 32, Span(0.0001, 1.9999)) != segment_uid("a" * 32, Span(0.0, 2.001))
    assert len(one) == 32
    keys = [settings.key() for settings in PUBLISHED.values() if settings.network is None]  # its weights may be missing
    assert len({digest(key) for key in keys}) == len(keys)
