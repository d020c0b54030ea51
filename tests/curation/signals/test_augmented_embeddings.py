"""Teacher embeddings of augmented views, repeated from what is stored."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.augmentations import PARAMETERS, augmented, drawn_parameters
from curation.signals.augmented_image_embedding import AugmentedImageEmbedding
from tests.curation.signal_rows import DIM, TinyScorer, drawing

SCORER = f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"


def test_a_student_can_see_what_the_teacher_saw() -> None:
    signal = AugmentedImageEmbedding(model="m", scorer=SCORER, views=4)
    images = [drawing(0), None, drawing(1, 300, 90)]
    rows = signal.compute_images(images).to_pylist()
    assert rows[1] == {"clip_augmented_embeddings": None, "clip_augmentations": None}
    for image, row in ((images[0], rows[0]), (images[2], rows[2])):
        assert image is not None
        stored = np.array(row["clip_augmentations"], np.float32).reshape(4, len(PARAMETERS))
        again = [augmented(image, each, 224) for each in stored]
        vectors = np.array(row["clip_augmented_embeddings"], np.float32).reshape(4, DIM)
        np.testing.assert_allclose(TinyScorer("m").encode_images(again)[0], vectors, atol=1e-3)
        assert len({view.tobytes() for view in again}) == 4
    assert rows[0]["clip_augmentations"] != rows[2]["clip_augmentations"]


def test_columns_of_several_teachers_stand_side_by_side() -> None:
    first, second = (AugmentedImageEmbedding(name=name, model=name, scorer=SCORER, views=2) for name in ("a", "b"))
    assert not set(first.writes().names) & set(second.writes().names)
    assert first.writes().field(0).type == pa.list_(pa.float16(), 2 * DIM)
    untrained = AugmentedImageEmbedding(model="run:first", scorer="no.such.Scorer")
    assert untrained.writes().field(0).type == pa.list_(pa.float16())
    assert len({first.key(), first.changed(seed=1).key(), first.changed(views=3).key(), second.key()}) == 4


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.integers(4, 60), st.floats(0.05, 1.0), st.integers(0, 9))
def test_windows_lie_inside_and_are_as_large_as_they_should_be(high: int, wide: int, area: float, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (high, wide, 3), dtype=np.uint8)
    drawn = drawn_parameters(image, 6, area, seed)
    left, top, right, bottom = drawn[:, :4].T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= 1 + 1e-5).all()
    assert (bottom <= 1 + 1e-5).all()
    share = (right - left) * (bottom - top)
    assert (share <= 1 + 1e-5).all()
    assert (share >= area - 1e-4).all()
    assert np.array_equal(drawn[0], [0, 0, 1, 1, 1, 1, 1])
    assert np.array_equal(drawn, drawn_parameters(image, 6, area, seed))
    assert all(augmented(image, each, 8).shape == (8, 8, 3) for each in drawn)


def test_colours_do_what_their_names_say() -> None:
    image = drawing(2, 64, 64)
    whole = np.array([0, 0, 1, 1, 1, 1, 1], np.float32)
    assert np.array_equal(augmented(image, whole, 64), image)
    darker, flatter, grey = (whole.copy() for _ in range(3))
    darker[4], flatter[5], grey[6] = 0.5, 0.5, 0.0
    assert abs(augmented(image, darker, 64).mean() - image.mean() / 2) < 1
    assert augmented(image, flatter, 64).std() < 0.6 * image.std()
    assert np.ptp(augmented(image, grey, 64), axis=2).max() == 0
