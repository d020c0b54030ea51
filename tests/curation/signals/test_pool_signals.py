"""Signals from embeddings alone, each against its definition read dully, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.signals.caption_agreement import CaptionAgreement
from curation.signals.embedding_cluster import EmbeddingCluster
from curation.signals.nearest_class import NearestClass
from curation.signals.neg_clip_loss import NegClipLoss
from curation.signals.norm_sim import NormSim
from curation.target_sets import load_targets

DIM = 8


def vectors(count: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def column(rows: np.ndarray, missing: set[int] = frozenset()) -> pa.Array:  # type: ignore[assignment]
    return pa.array([None if k in missing else row for k, row in enumerate(rows)], pa.list_(pa.float16(), DIM))


def pairs(count: int, seed: int = 0, texts_of_a_picture: int = 1, missing: set[int] = frozenset()) -> pa.Table:  # type: ignore[assignment]
    samples = [k // texts_of_a_picture for k in range(count)]
    return pa.table(
        {
            "text_uid": [f"t{k}" for k in range(count)],
            "sample_uid": [f"s{k}" for k in samples],
            "clip_image_embedding": column(vectors(count, seed)[samples], missing),
            "clip_text_embedding": column(vectors(count, seed + 1)),
        }
    )


def unit(table: pa.Table, name: str) -> np.ndarray:
    rows = np.array([np.full(DIM, np.nan) if row is None else row for row in table.column(name).to_pylist()], float)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def contrastive(s: np.ndarray, temperature: float) -> np.ndarray:
    """negCLIPLoss of all pairs of one batch, from their matrix of cosines (pictures x texts), as the paper has it."""
    sums = np.log(np.exp(s / temperature).sum(axis=1)) + np.log(np.exp(s / temperature).sum(axis=0))
    return s.diagonal() - temperature / 2 * sums


def test_neg_clip_loss_of_one_batch_is_the_papers() -> None:
    rows = pairs(50, missing={3, 17})
    signal = NegClipLoss(temperature=0.05)
    found = signal.apply(rows, signal.fit_pool([rows])).column(0).to_pylist()
    there = [k for k in range(50) if k not in (3, 17)]
    image, text = unit(rows, "clip_image_embedding")[there], unit(rows, "clip_text_embedding")[there]
    assert [found[k] for k in there] == pytest.approx(contrastive(image @ text.T, 0.05), abs=2e-6)
    assert found[3] is found[17] is None


@pytest.mark.parametrize("texts_of_a_picture", [1, 3])
def test_neg_clip_loss_of_several_batches_is_the_papers_on_batches_with_the_pair_in_them(
    texts_of_a_picture: int,
) -> None:
    """Each batch with the pair in the place of its picture's, or of the last one, and then the paper's formula."""
    rows = pairs(120, texts_of_a_picture=texts_of_a_picture)
    signal = NegClipLoss(temperature=0.02, batch_size=25, repetitions=3, seed=5)
    fit = signal.fit_pool([rows.slice(60), rows.slice(0, 60)])
    assert fit.column("batch").to_pylist() == [0] * 25 + [1] * 25 + [2] * 25
    found = signal.apply(rows, fit).column(0).to_pylist()
    image, text = unit(rows, "clip_image_embedding"), unit(rows, "clip_text_embedding")
    samples = rows.column("sample_uid").to_pylist()
    batches = [fit.slice(start, 25) for start in (0, 25, 50)]
    for batch in batches:
        assert len(set(batch.column("sample_uid").to_pylist())) == 25
    for k in range(120):
        values = []
        for batch in batches:
            names = batch.column("sample_uid").to_pylist()
            place = names.index(samples[k]) if samples[k] in names else 24
            images, texts = unit(batch, "image"), unit(batch, "text")
            images[place], texts[place] = image[k], text[k]
            values.append(contrastive(images @ texts.T, 0.02)[place])
        assert found[k] == pytest.approx(np.mean(values), abs=5e-6)


def test_neg_clip_loss_prefers_what_fits_nothing_else() -> None:
    """Two pairs of one cosine: the one whose text also fits all other pictures scores lower."""
    eye = np.eye(DIM)[:4]
    everyone = np.ones(DIM) / np.sqrt(DIM)
    image = np.concatenate([eye, [everyone]])
    text = np.concatenate([[everyone], eye[1:], [eye[3]]])
    rows = pa.table(
        {
            "text_uid": list("abcde"),
            "sample_uid": list("abcde"),
            "clip_image_embedding": column(image.astype(np.float16)),
            "clip_text_embedding": column(text.astype(np.float16)),
        }
    )
    signal = NegClipLoss()
    generic, *_, other = signal.apply(rows, signal.fit_pool([rows])).column(0).to_pylist()
    assert (image * text).sum(axis=1)[0] == pytest.approx((image * text).sum(axis=1)[4])
    assert generic < -0.0001
    assert other < -0.1  # its text belongs to another picture


def test_a_fit_of_one_pool_serves_others_and_an_empty_one_does_not() -> None:
    signal, old, new = NegClipLoss(batch_size=16), pairs(40), pairs(6, seed=9)
    fit = signal.fit_pool([old])
    assert None not in signal.apply(new, fit).column(0).to_pylist()
    with pytest.raises(ValueError, match="the fit holds no pair"):
        signal.apply(new, signal.fit_pool([]))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("targets") / "set.npz"
    np.savez(path, embeddings=vectors(30, 77).astype(np.float32), labels=np.array([f"class {k}" for k in range(30)]))
    return path


@pytest.mark.parametrize(("p", "order"), [("inf", np.inf), (2, 2)])
def test_norm_sim_is_the_norm(target: Path, p: str, order: float) -> None:
    rows = pairs(300, missing={7})
    found = NormSim(target=target, p=p).compute(rows).column(0).to_pylist()  # type: ignore[arg-type]
    cosines = unit(rows, "clip_image_embedding") @ load_targets(target).vectors_MD.T.astype(float)
    wanted = np.linalg.norm(cosines, ord=order, axis=1)
    assert found.pop(7) is None
    assert found == pytest.approx(np.delete(wanted, 7), abs=1e-6)


def test_nearest_class_is_the_largest_cosine(target: Path, tmp_path: Path) -> None:
    rows = pairs(40, missing={7})
    found = NearestClass(target=target).compute(rows).to_pydict()
    cosines = unit(rows, "clip_image_embedding") @ load_targets(target).vectors_MD.T.astype(float)
    for k, row in enumerate(cosines):
        if k != 7:
            assert found["nearest_class"][k] == f"class {row.argmax()}"
            assert found["nearest_class_similarity"][k] == pytest.approx(row.max(), abs=1e-6)
    assert found["nearest_class"][7] is found["nearest_class_similarity"][7] is None
    np.save(tmp_path / "bare.npy", load_targets(target).vectors_MD)
    bare = NearestClass(target=tmp_path / "bare.npy").compute(rows).to_pydict()
    assert bare["nearest_class"][0] == str(cosines[0].argmax())


def test_a_target_set_is_in_the_key_and_its_place_is_not(target: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.npz"
    copy.write_bytes(target.read_bytes())
    np.save(tmp_path / "other.npy", vectors(3, 1).astype(np.float32))
    for signal in (NormSim(target=target), NearestClass(target=target), EmbeddingCluster(target=target)):
        assert signal.changed(target=copy).key() == signal.key()
        assert signal.changed(target=tmp_path / "other.npy").key() != signal.key()
    np.save(tmp_path / "five.npy", np.ones((2, 5), np.float32))
    with pytest.raises(ValueError, match="of 8 and of 5 dimensions"):
        NormSim(target=tmp_path / "five.npy").compute(pairs(2))


def test_clusters_are_the_nearest_centroids_and_targets_mark_theirs(target: Path) -> None:
    media = pa.table(
        {"media_uid": [f"m{k}" for k in range(400)], "clip_image_embedding": column(vectors(400, 3), missing={5})}
    )
    signal = EmbeddingCluster(num_clusters=20, sample_size=200, target=target)
    fit = signal.fit_pool([media.slice(0, 150), media.slice(150)])
    centroids = np.array(fit.column("centroid").to_pylist())
    assert centroids.shape == (20, DIM)
    found = signal.apply(media, fit).to_pydict()
    cosines = unit(media, "clip_image_embedding") @ centroids.T
    owners = set((load_targets(target).vectors_MD @ centroids.T).argmax(axis=1).tolist())
    for k, row in enumerate(cosines):
        if k != 5:
            assert found["cluster_id"][k] == row.argmax()
            assert found["cluster_distance"][k] == pytest.approx(1 - row.max(), abs=1e-6)
            assert found["cluster_has_target"][k] == (row.argmax() in owners)
    assert [found[name][5] for name in found] == [None] * 3
    assert 0 < sum(bool(each) for each in found["cluster_has_target"]) < 400
    bare = signal.changed(target=None)
    assert set(bare.apply(media, bare.fit_pool([media])).column("cluster_has_target").to_pylist()) == {None}


def test_names_stand_side_by_side(target: Path) -> None:
    assert NegClipLoss(prefix="b32_").writes().names == ["b32_neg_clip_loss"]
    assert NormSim(prefix="vtab_", target=target).table_name() == "vtab_norm_sim"
    assert EmbeddingCluster(prefix="big_").writes().names[0] == "big_cluster_id"
    assert NearestClass(prefix="in1k_", target=target).writes().names[1] == "in1k_nearest_class_similarity"


@pytest.mark.parametrize("language", ["language", None])
def test_agreement_is_the_mean_cosine_with_the_others(language: str | None) -> None:
    rows = pa.table(
        {
            "sample_uid": ["a", "b", "a", "a", "c", "a", "b", None, "a"],
            "clip_text_embedding": column(vectors(9, 4), missing={8}),
            "language": ["en", "en", "fr", "en-GB", "de", "pt_BR", None, "en", "en"],
        }
    )
    found = CaptionAgreement(language=language).compute(rows).to_pydict()
    text, names = unit(rows, "clip_text_embedding"), rows.column("sample_uid").to_pylist()
    tongues = [each and each[:2] for each in rows.column("language").to_pylist()]
    usable = [k for k in range(8) if names[k] and (tongues[k] or language is None)]
    for k in range(9):
        others = [j for j in usable if j != k and names[j] == names[k] and (not language or tongues[j] != tongues[k])]
        if k not in usable:
            assert found["num_compared_captions"][k] is None
        else:
            assert found["num_compared_captions"][k] == len(others)
        wanted = np.mean([text[j] @ text[k] for j in others]) if others and k in usable else None
        assert found["caption_agreement"][k] == (None if wanted is None else pytest.approx(wanted, abs=1e-6))


def test_a_swapped_caption_disagrees() -> None:
    meaning = vectors(2, 6)
    rows = pa.table(
        {
            "sample_uid": ["a"] * 4,
            "clip_text_embedding": column(meaning[[0, 0, 1, 0]]),
            "language": ["en", "fr", "de", "it"],
        }
    )
    found = CaptionAgreement().compute(rows).column("caption_agreement").to_numpy()
    assert found.argmin() == 2
