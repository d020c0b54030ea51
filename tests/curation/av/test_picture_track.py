from __future__ import annotations

import numpy as np
import pytest

from curation.av.cutting_up import SegmentOptions, cut_up
from curation.av.picture_track import FRAME, MOTION, PictureTrack, TrackMaker
from curation.av.segment_signal import decoded_segment
from curation.av.segments import Segmentation
from curation.media.av_decode import AvDecoder
from curation.media.av_types import FrameTap, Wanted
from curation.signals.audio_levels import AudioLevels
from curation.signals.media_fingerprint import MediaFingerprint, video_track
from curation.signals.sound_and_picture import SoundAndPicture
from curation.signals.video_motion import VideoMotion
from tests.curation.av import media

SIGNALS = [VideoMotion(), SoundAndPicture(), MediaFingerprint()]


def _small(seed: int, num: int) -> np.ndarray:
    return np.stack(media.pan(seed, num, 3, 96, 54))


def test_figures_are_those_of_each_frame() -> None:
    frames, times = _small(1, 30), np.arange(30) / 25
    frames[:, :9] = 0  # a bar
    frames[3:5] = 0
    maker = TrackMaker()
    maker.add(frames, times)
    track = maker.track()
    luma = 16 + 219 / 255 * (frames @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_allclose(track.frames["level"], luma.mean(axis=(1, 2)), atol=0.6)
    steps = np.concatenate([[0], np.abs(np.diff(luma, axis=0)).mean(axis=(1, 2))])
    np.testing.assert_allclose(track.steps, steps, atol=0.6)
    rows, columns = track.lit
    np.testing.assert_array_equal(rows, (luma > 28).mean(axis=2) > 0.05)
    np.testing.assert_array_equal(columns, (luma > 28).mean(axis=1) > 0.05)
    assert track.frames["is_known"].tolist() == [k not in (3, 4) for k in range(30)]


def test_pieces_and_ranges_and_bytes() -> None:
    frames, times = _small(2, 40), np.arange(40) / 25
    whole, pieces = TrackMaker(), TrackMaker()
    whole.add(frames, times)
    whole.add_motion(times[::5], np.ones((8, 16), np.float32))
    for start, end in ((0, 1), (1, 17), (17, 40)):
        pieces.add(frames[start:end], times[start:end])
    pieces.add_motion(times[::5], np.ones((8, 16), np.float32))
    track = whole.track()
    np.testing.assert_array_equal(track.frames, pieces.track().frames)
    part = track.between(0.4, 1.2, first_s=0.02)
    assert (len(part.frames), len(part.motion)) == (20, 4)
    assert part.times_s[0] == pytest.approx(0.02)
    assert part.motion["time_s"][0] == pytest.approx(0.02)
    assert (part.steps[0], part.steps[1]) == (0.0, pytest.approx(track.steps[11]))
    again = PictureTrack.of_bytes(*part.as_bytes())
    np.testing.assert_array_equal(again.frames, part.frames)
    np.testing.assert_array_equal(again.motion, part.motion)
    assert (FRAME.itemsize, MOTION.itemsize) == (44, 72)  # as the docstring and README say
    assert len(track.between(7.0, 8.0).frames) == 0


@pytest.mark.parametrize("kind", ["mp4", "webm"])
@pytest.mark.parametrize("cut", ["copy", "exact"])
def test_what_is_kept_of_a_source_is_what_its_segments_show(decoder: AvDecoder, kind: str, cut: str) -> None:
    """The signals of a segment by the track that was kept, against those of the segment decoded by itself."""
    frames = [f for k, n in enumerate((50, 60, 75)) for f in media.pan(40 + k, n, 3, 160, 120)]
    body = media.write(frames, media.music(7.4, 4), kind, options={"g": "25"})
    options = SegmentOptions(
        shots=Segmentation(min_s=1.0),
        cut=cut,  # type: ignore[arg-type]
        container="mp4" if kind == "mp4" else "matroska",
        audio_codec="aac" if kind == "mp4" else "libopus",
    )
    found = [each for each in cut_up(decoder, body, "u", options) if each.cut is not None and each.cut.body]
    assert len(found) == 3
    for each in found:
        assert each.cut is not None
        assert each.cut.body is not None
        assert each.track is not None
        assert len(each.track.frames) == each.cut.num_frames
        _, got = decoder.gather(each.cut.body, Wanted(frames=(FrameTap("every", 1, 48),)))
        seen = got.frames()
        assert seen is not None
        np.testing.assert_allclose(each.track.times_s, seen.times_s, atol=2e-3)
        kept = decoded_segment(decoder, each.cut.body, SIGNALS, each.track)
        anew = decoded_segment(decoder, each.cut.body, SIGNALS)
        assert kept is not None
        assert anew is not None
        assert anew.pictures is not None
        rows = [{k: v for s in SIGNALS for k, v in s.of_segment(one).items()} for one in (kept, anew)]
        if cut == "copy":  # the very same pictures
            np.testing.assert_array_equal(each.track.frames["hash"], anew.pictures.frames["hash"])
            np.testing.assert_allclose(each.track.steps, anew.pictures.steps, atol=1e-5)
        for name, value in rows[0].items():
            if isinstance(value, float) and name != "av_confidence":
                assert value == pytest.approx(rows[1][name], abs=0.08, rel=0.25), name
        tracks = [video_track(row["video_fingerprint"], row["video_known"]).hashes for row in rows]  # type: ignore[arg-type]
        assert np.bitwise_count(tracks[0] ^ tracks[1]).mean() < (0.01 if cut == "copy" else 6)
        assert rows[0]["audio_fingerprint"] == rows[1]["audio_fingerprint"]


def test_a_track_needs_no_second_decoding_of_pictures(decoder: AvDecoder) -> None:
    body = media.write(media.pan(1, 75, 3, 320, 240), media.music(3, 1), "mp4")
    (one,) = cut_up(decoder, body, "u", SegmentOptions(shots=Segmentation(min_s=1.0)))
    assert one.cut is not None
    assert one.cut.body is not None
    before = decoder.decoder_s
    decoded_segment(decoder, one.cut.body, SIGNALS, one.track)
    sound_s = decoder.decoder_s - before
    decoded_segment(decoder, one.cut.body, SIGNALS)
    assert sound_s < (decoder.decoder_s - before - sound_s) / 2
    assert decoder.libav_s > decoder.decoder_s


def test_pictures_without_their_sound(decoder: AvDecoder) -> None:
    mute = media.write(media.pan(1, 50, 3), None, "mp4")
    (one,) = cut_up(decoder, mute, "u", SegmentOptions(shots=Segmentation(min_s=1.0)))
    assert one.cut is not None
    assert one.cut.body is not None
    found = decoded_segment(decoder, one.cut.body, [VideoMotion(), AudioLevels()], one.track)
    assert found is not None
    assert found.pictures is one.track
    assert AudioLevels().of_segment(found)["has_audio"] is False
