from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.av.cutting_up import SegmentOptions, cut_up
from curation.av.segments import Segmentation
from curation.av.shot_network import NetworkScores, ShotNetworkFields, cached_network, network_shots
from curation.media.av_decode import AvDecoder
from tests.curation.av import media


class Brightness:
    """A network whose probability is a frame's brightness, and which knows where in its window a frame stands."""

    weights_digest = "0" * 64

    def __init__(self, **_fields: object) -> None:
        self.windows: list[np.ndarray] = []

    def probabilities(self, window: np.ndarray) -> np.ndarray:
        assert window.shape == (100, 27, 48, 3)
        self.windows.append(window)
        found = np.asarray(window.mean(axis=(1, 2, 3)) / 255, np.float32)
        found[:25] = found[75:] = 9.0  # what is not kept
        return found


class Jumps(Brightness):
    """Whether the next frame is another picture."""

    def probabilities(self, window: np.ndarray) -> np.ndarray:
        steps = np.abs(np.diff(window.astype(int), axis=0)).mean(axis=(1, 2, 3))
        return np.append(steps > 15, 0.0).astype(np.float32)


@settings(max_examples=30)
@given(st.integers(1, 260), st.lists(st.integers(1, 120), max_size=6))
def test_each_frame_is_scored_once_in_order_whatever_the_pieces(num: int, pieces: list[int]) -> None:
    levels = np.random.default_rng(num).integers(0, 256, num).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (num, 54, 96, 3))
    scores, found, at = NetworkScores(Brightness()), [], 0
    for piece in [*pieces, num]:
        found.append(scores.add(frames[at : at + piece]))
        at += piece
    found.append(scores.finish())
    np.testing.assert_allclose(np.concatenate(found), levels / 255, atol=1e-6)
    assert len(scores.finish()) == 0


def test_windows_are_those_of_the_paper() -> None:
    """100 frames, 50 apart, the first and the last frame repeated 25 times and more."""
    frames = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None, None, None], (120, 54, 96, 3))
    network = Brightness()
    scores = NetworkScores(network)
    scores.add(frames)
    scores.finish()
    seen = [window[:, 0, 0, 0].tolist() for window in network.windows]
    padded = [0] * 25 + list(range(120)) + [119] * 55
    assert seen == [padded[k : k + 100] for k in (0, 50, 100)]


def _dull(probabilities: list[float], threshold: float) -> list[tuple[int, int]]:
    """Frame by frame, as the paper's code reads its predictions (there the last frame of a shot is told)."""
    shots, begin, before, now = [], 0, False, False
    for k, each in enumerate(probabilities):
        now = each > threshold
        if before and not now:
            begin = k
        if now and not before and k > 0:
            shots.append((begin, k + 1))
        before = now
    return [*shots, *([] if now else [(begin, len(probabilities))])] or [(0, len(probabilities))]


@given(st.lists(st.sampled_from([0.1, 0.9]), min_size=1, max_size=40))
def test_shots_are_read_as_the_paper_reads_them(probabilities: list[float]) -> None:
    if probabilities[0] < 0.5:  # a film that begins in a transition: the paper's first shot begins after it
        assert network_shots(np.array(probabilities), 0.5) == _dull(probabilities, 0.5)
    found = network_shots(np.array(probabilities), 0.5)
    assert found == sorted(found)
    assert all(first < end for first, end in found)


def test_a_film_is_cut_where_the_network_says() -> None:
    frames = [f for k, n in enumerate((60, 45, 70)) for f in media.pan(60 + k, n, 1, 160, 120)]
    use = f"{__name__}.Jumps"
    shots = Segmentation(detector="transnetv2", min_s=1.0, network=ShotNetworkFields(use=use))
    with AvDecoder() as decoder:
        body = media.write(frames, None, "mp4", options={"g": "250"})
        found = cut_up(decoder, body, "u", SegmentOptions(shots=shots, cut="exact"))
    spans = [(each.span.start_s, each.span.end_s) for each in found if each.span is not None]
    assert spans == [pytest.approx(span, abs=1e-3) for span in ((0, 2.4), (2.4, 4.2), (4.2, 7.0))]
    assert [each.cut.num_frames for each in found if each.cut is not None] == [60, 45, 70]


def test_what_a_recipe_says_of_it_is_checked() -> None:
    fields = {"network": {"use": f"{__name__}.Jumps"}}
    assert Segmentation.model_validate({"detector": "transnetv2", **fields}).threshold == 0.5
    with pytest.raises(ValueError, match="a probability between 0 and 1, not 27"):
        Segmentation.model_validate({"detector": "transnetv2", "threshold": 27, **fields})
    with pytest.raises(ValueError, match="is for `detector: transnetv2`, not for 'content'"):
        Segmentation.model_validate(fields)
    with pytest.raises(ValueError, match="cannot be imported"):
        cached_network("curation.nothing.There", None, "cpu")
    with pytest.raises(ValueError, match="is no import path of a network of shots"):
        cached_network("curation.av.segments.Span", None, "cpu")
    other = ShotNetworkFields(use=f"{__name__}.Jumps", weights=Path("elsewhere"))
    assert other.key() == ShotNetworkFields(use=f"{__name__}.Jumps").key()  # what counts is the digest of the weights
