"""Sampled frames of segments: which are taken, what is stored of them, and what is made of the vectors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.av.segment_signal import DecodedSegment, decoded_segment
from curation.media.av_decode import AvDecoder
from curation.scorers import embedding_matrix
from curation.signals.frame_clip_score import FrameClipScore
from curation.signals.frame_embedding import FrameEmbedding, places
from curation.signals.sound_picture_similarity import SoundPictureSimilarity
from tests.curation.av import media
from tests.curation.signal_rows import TinyScorer

SCORER = f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"


def frames_of(count: int) -> FrameEmbedding:
    return FrameEmbedding(model="tiny", scorer=SCORER, num_frames=count)


def test_which_frames_are_taken() -> None:
    assert places(3, 8).tolist() == [0, 1, 2]
    assert places(10, 2).tolist() == [2, 7]
    assert places(9, 3).tolist() == [1, 4, 7]
    assert places(5, 1).tolist() == [2]
    assert places(0, 4).tolist() == []
    for count in range(1, 40):
        for most in range(1, 12):
            taken = places(count, most)
            assert len(set(taken.tolist())) == len(taken) == min(count, most)
            assert taken.min() >= 0
            assert taken.max() < count
            assert np.abs(taken + 0.5 - (count - 0.5 - taken[::-1])).max() <= 1  # as far from both ends


def test_the_mean_of_the_frames_of_a_film(decoder: AvDecoder) -> None:
    """Three shots of a second and a half, of flat colours: the frames at 0, 1, 2, 3 and 4 s."""
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    flat = [np.full((72, 128, 3), colour, np.uint8) for colour in colours for _ in range(38)]
    body = media.write(flat, None, "mp4")
    segment = decoded_segment(decoder, body, [frames_of(8)])
    assert segment is not None
    assert segment.views is not None
    assert segment.views.pixels.shape == (5, 72, 128, 3)  # never enlarged
    assert segment.views.pixels.reshape(5, -1, 3).mean(axis=1).argmax(axis=1).tolist() == [0, 0, 1, 1, 2]
    table = frames_of(8).compute_segments([segment, None, DecodedSegment()])
    pooled, stored, count = (table.column(k).to_pylist() for k in range(3))
    assert count == [5, None, None]
    assert pooled[1:] == stored[1:] == [None, None]
    one_by_one, _ = TinyScorer("tiny").encode_images(list(segment.views.pixels))
    np.testing.assert_allclose(np.array(stored[0]).reshape(5, -1), one_by_one, atol=1e-3)
    mean = one_by_one.mean(axis=0)
    np.testing.assert_allclose(pooled[0], mean / np.linalg.norm(mean), atol=1e-3)
    assert frames_of(2).of_segment(segment)["clip_frames"] == 2
    assert frames_of(2).key() != frames_of(8).key()
    assert frames_of(8).changed(space="some").key() == frames_of(8).key()


def test_scores_of_frames() -> None:
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0]], np.float16)
    frames = [vectors.ravel(), vectors[:1].ravel(), None, vectors[0] * 0, vectors[0] * np.float16(np.nan), []]
    rows = pa.table(
        {
            "clip_frame_embeddings": pa.array(frames, pa.list_(pa.float16())),
            "clip_text_embedding": pa.array([[1.0, 0, 0]] * 6, pa.list_(pa.float16(), 3)),
        }
    )
    found = FrameClipScore().compute(rows).to_pylist()
    assert list(found[0].values()) == pytest.approx([1.6 / 3, 0.0, 1.0], abs=1e-3)
    assert list(found[1].values()) == pytest.approx([1.0, 1.0, 1.0], abs=1e-3)
    assert [set(row.values()) for row in found[2:]] == [{None}] * 4
    wrong = rows.set_column(1, "clip_text_embedding", pa.array([[1.0, 0]] * 6, pa.list_(pa.float16(), 2)))
    with pytest.raises(ValueError, match="9 numbers of frames are no vectors of 2 dimensions"):
        FrameClipScore().compute(wrong)


def test_similarity_is_the_cosine_and_its_own_space() -> None:
    rng = np.random.default_rng(3)
    pictures, sounds = rng.normal(size=(2, 6, 4)).astype(np.float16)
    kind = pa.list_(pa.float16(), 4)
    columns = {"eye_image_embedding": pa.array([*pictures[:5], None], kind)}
    columns["ear_audio_embedding"] = pa.array([None, *sounds[1:]], kind)
    signal = SoundPictureSimilarity(picture="eye", sound="ear")
    found = signal.compute(pa.table(columns)).column(0).to_pylist()
    assert (found[0], found[5]) == (None, None)
    one, other = (embedding_matrix(columns[name])[0].astype(float) for name in signal.reads())
    for k in range(1, 5):
        truth = one[k] @ other[k] / np.linalg.norm(one[k]) / np.linalg.norm(other[k])
        assert found[k] == pytest.approx(truth, abs=1e-4)
