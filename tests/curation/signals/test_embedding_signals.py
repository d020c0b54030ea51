"""Signals of models, with a tiny scorer, and the score that follows from their columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.fitted import FittedSignal
from curation.scorers import embedding_array, embedding_matrix
from curation.signal import ColumnSignal, Signal, drop_nonfinite
from curation.signals.clip_score import ClipScore
from curation.signals.image_embedding import ImageEmbedding
from curation.signals.keyed_draw import KeyedDraw, keyed_draw
from curation.signals.text_embedding import TextEmbedding
from tests.curation.signal_rows import DIM, TinyScorer, computed, drawing, rows_of
from tests.curation.test_signal_laws import SIGNALS

SCORER = f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"


def test_embeddings_and_score_agree_with_the_model() -> None:
    images, texts = [drawing(0), None, drawing(1)], ["a dog", "a cat", None]
    image_table = ImageEmbedding(model="m", scorer=SCORER).compute_images(images)
    text_table = TextEmbedding(model="m", scorer=SCORER).compute(pa.table({"text_clean": pa.array(texts, pa.string())}))
    rows = pa.table({**dict(zip(image_table.column_names, image_table.columns, strict=True)), **text_table.to_pydict()})
    rows = rows.set_column(1, "clip_text_embedding", text_table.column(0))
    scores = ClipScore().compute(rows).column("clip_score").to_pylist()
    model = TinyScorer("m")
    wanted = (model.encode_images(images)[0][0] * model.encode_texts(texts)[0][0]).sum()
    assert scores == [pytest.approx(wanted, abs=2e-3), None, None]
    assert image_table.schema.field(0).type == pa.list_(pa.float16(), DIM)


def test_the_weights_are_in_the_key_and_the_path_is_not() -> None:
    keys = {ImageEmbedding(model=model, scorer=SCORER).key() for model in ("a", "a", "b")}
    assert len(keys) == 2
    fields = ImageEmbedding(model="a", scorer=SCORER).key_material()
    assert set(fields["fields"]) == {"name", "precision"}
    assert fields["extras"] == {"weights": "weights of a"}


def test_names_stand_side_by_side() -> None:
    assert ImageEmbedding(name="b", model="m", scorer=SCORER).writes().names == ["b_image_embedding"]
    assert ClipScore(name="b").reads() == ("b_image_embedding", "b_text_embedding")
    assert ClipScore(name="b").writes().names == ["b_score"] == [ClipScore(name="b").table_name()]
    assert ImageEmbedding(model="m", scorer=SCORER).needs_model()
    assert not ClipScore().needs_model()


def test_columns_of_an_untrained_model_are_known_without_it() -> None:
    assert TextEmbedding(model="run:first", scorer="no.such.Scorer").writes().names == ["clip_text_embedding"]


def test_score_is_null_for_what_is_not_a_direction() -> None:
    good = np.array([1.0, 0.0])
    bad = [good, np.zeros(2), np.array([np.inf, 0]), np.array([np.nan, 1]), good * -1, good * 1.0005]
    kind = pa.list_(pa.float16(), 2)
    rows = pa.table(
        {
            "clip_image_embedding": pa.array([row.astype(np.float16) for row in bad], kind),
            "clip_text_embedding": pa.array([good.astype(np.float16)] * len(bad), kind),
        }
    )
    assert ClipScore().compute(rows).column(0).to_pylist() == [1.0, None, None, None, -1.0, 1.0]


def test_score_refuses_embeddings_of_two_models() -> None:
    rows = pa.table(
        {
            "clip_image_embedding": embedding_array(np.ones((1, 2)), np.array([True])),
            "clip_text_embedding": embedding_array(np.ones((1, 3)), np.array([True])),
        }
    )
    with pytest.raises(ValueError, match="2 and 3"):
        ClipScore().compute(rows)


def test_matrix_of_slices_and_variable_lists() -> None:
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    column = embedding_array(values, np.array([True, False, True, True]))
    for each in (column, column.cast(pa.list_(pa.float16()))):
        matrix, present = embedding_matrix(each.slice(1, 2))
        assert matrix.tolist() == [[0, 0], [4, 5]]
        assert present.tolist() == [False, True]


def test_draw_is_uniform_and_depends_on_uid_and_seed_alone() -> None:
    uids = [f"{number:064x}" for number in range(4000)]
    table = KeyedDraw(seed=3).compute(pa.table({"text_uid": uids}))
    draws = table.column("draw").to_numpy()
    assert draws[7] == keyed_draw(uids[7], 3)
    assert 0 <= draws.min() < draws.max() < 1
    # Kolmogorov-Smirnov at the 0.1% level; and two seeds do not go together
    steps = np.abs(np.sort(draws) - np.arange(4000) / 4000).max()
    assert steps < 1.95 / np.sqrt(4000)
    other = np.array([keyed_draw(uid, 4) for uid in uids])
    assert abs(np.corrcoef(draws, other)[0, 1]) < 0.06


BAD = {0: np.zeros(DIM), 5: np.full(DIM, np.nan), 6: np.array([np.inf, *[1.0] * (DIM - 1)]), 10: -np.zeros(DIM)}
"""Row -> what no direction is."""
OF_EMBEDDINGS = [each for each in SIGNALS if any(name.endswith("_embedding") for name in each.reads())]


@pytest.mark.parametrize("signal", OF_EMBEDDINGS, ids=lambda each: type(each).__name__)
def test_vectors_that_are_no_directions_give_nothing_and_spoil_nothing(signal: Signal) -> None:
    """Zeros, NaN and infinities, in every column of embeddings that a signal reads."""
    rows = rows_of(signal)
    bad = [row for row in BAD if row < rows.num_rows]
    for name in signal.reads():
        if name.endswith("_embedding"):
            vectors = rows.column(name).to_pylist()
            for row in bad:
                vectors[row] = BAD[row].astype(np.float16)
            place = rows.column_names.index(name)
            rows = rows.set_column(place, rows.schema.field(name), pa.array(vectors, rows.schema.field(name).type))
    if isinstance(signal, FittedSignal):
        table = signal.apply(rows, signal.fit_pool([rows.select(signal.reads())]))
    else:
        assert isinstance(signal, ColumnSignal)
        table = signal.compute(rows)
    assert drop_nonfinite(table)[1].to_pylist() == [False] * rows.num_rows
    good = computed(signal, rows_of(signal))
    for name in table.column_names:
        column = table.column(name)
        assert [column[row].as_py() for row in bad] == [None] * len(bad), name
        others = [row for row in range(rows.num_rows) if row not in bad and good.column(name)[row].is_valid]
        assert any(column[row].is_valid for row in others), name


def test_a_scorer_without_an_answer_leaves_the_other_ones() -> None:
    """Two scorers side by side, one of which has no vector for some rows: null there, and the other as ever."""
    kind = pa.list_(pa.float16(), 2)
    unit = np.array([1.0, 0.0], np.float16)
    whole, holes = pa.array([unit] * 3, kind), pa.array([unit, None, unit], kind)
    rows = pa.table({"a_image_embedding": whole, "a_text_embedding": whole, "b_image_embedding": holes,
                     "b_text_embedding": whole})  # fmt: skip
    scores = {name: ClipScore(name=name).compute(rows).column(f"{name}_score").to_pylist() for name in "ab"}
    assert scores == {"a": [1.0, 1.0, 1.0], "b": [1.0, None, 1.0]}
