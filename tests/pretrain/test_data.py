"""pretrain/data.py, loader.py, dataset.py: a global order that knows no workers, and what is read of a version."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny import SCHEMA, TEXT, config, sample, uid, write_version

from pretrain.config import ConfigError, TrainConfig
from pretrain.data import Reader
from pretrain.dataset import Data, open_data
from pretrain.loader import Loader, Ready
from pretrain.samples import read_samples
from pretrain.version import Version


def opened(version: Version, store: Path, *others: Version, **changes: object) -> Data:
    settings: TrainConfig = config(**changes)
    model = settings.model.build(settings.image_size)
    places = [str(each.folder) for each in (version, *others)]
    return open_data(settings, list(places), store / "cache", model)


def reader(version: Version, store: Path, *others: Version, **changes: object) -> Reader:
    return opened(version, store, *others, **changes).reader


def loader(source: Reader) -> Loader:
    model = source.config.model.build(source.config.image_size)
    return Loader(source, model, [{}] * len(source.sources), source.config, torch.device("cpu"))


def batch(made: Loader, step: int, rank: int = 0, num_workers: int = 1) -> Ready:
    return made.ready(step, made.reader.raw(step, rank, num_workers))


@pytest.mark.parametrize("pictures", ["cached", "streamed"])
def test_workers_see_the_parts_of_the_same_global_batch(version: Version, store: Path, pictures: str) -> None:
    source = loader(reader(version, store, pictures=pictures))
    for step in (0, 3):  # the fourth batch crosses an epoch's end
        (whole,) = batch(source, step).pieces
        for num_workers in (2, 4):
            ready = [batch(source, step, rank, num_workers) for rank in range(num_workers)]
            parts = [piece for each in ready for piece in each.pieces]
            images = torch.cat([part.inputs["image"]["image_BCHW"] for part in parts])
            torch.testing.assert_close(images, whole.inputs["image"]["image_BCHW"], atol=1e-6, rtol=0)
            assert torch.equal(torch.cat([part.group_B for part in parts]), whole.group_B)
            ids = torch.cat([part.inputs["text"]["ids"] for part in parts])
            assert torch.equal(ids, whole.inputs["text"]["ids"])
            digests = sum(each.samples_digest for each in ready) % (1 << 64)
            assert digests == batch(source, step).samples_digest


def test_every_sample_once_an_epoch_and_each_epoch_in_its_own_order(version: Version, store: Path) -> None:
    source = reader(version, store, batch_size=16)
    rows = source.sources[0].rows_N.tolist()
    assert len(rows) == 40
    epochs: dict[int, list[int]] = {}
    for step in range(10):  # 160 rows = 4 epochs, with batches across their borders
        _, of_epoch, of_row = source.positions(step)
        for epoch, row in zip(of_epoch.tolist(), of_row.tolist(), strict=True):
            epochs.setdefault(epoch, []).append(row)
    assert {epoch: sorted(seen) for epoch, seen in epochs.items()} == dict.fromkeys(range(4), rows)
    assert len({tuple(seen) for seen in epochs.values()}) == 4


def test_order_depends_on_version_and_seed_only(version: Version, store: Path, tmp_path: Path) -> None:
    twin = write_version(tmp_path, [sample(n, "val" if n % 6 == 0 else "train") for n in range(48)], name="twin")
    sources = [
        reader(version, store),
        reader(version, store, num_workers=2, loader_workers=3),
        reader(version, store, seed=1),
        reader(twin, store),
    ]
    orders = [each.positions(0)[2].tolist() for each in sources]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3


def test_prefetched_batches_are_the_batches(version: Version, store: Path) -> None:
    source = loader(reader(version, store))
    for ready in source.batches(2, 6, rank=1, num_workers=2):
        assert torch.equal(ready.pieces[0].group_B, batch(source, ready.step, 1, 2).pieces[0].group_B)
    assert list(source.batches(3, 3)) == []


def test_a_reader_crosses_to_another_process_without_its_pictures(version: Version, store: Path) -> None:
    for pictures in ("cached", "streamed"):
        source = reader(version, store, pictures=pictures)
        raw = pickle.dumps(source)
        assert len(raw) < 20_000
        there, here = pickle.loads(raw).raw(1), source.raw(1)  # noqa: S301  (made here)
        assert torch.equal(there.pixels_BSSC, here.pixels_BSSC)
        assert there.texts == here.texts


def test_streamed_pictures_are_the_cached_ones_for_what_is_no_jpeg(version: Version, store: Path) -> None:
    cached, streamed = (reader(version, store, pictures=each) for each in ("cached", "streamed"))
    assert torch.equal(cached.raw(0).pixels_BSSC, streamed.raw(0).pixels_BSSC)
    assert bool(streamed.raw(0).has["image"].all())


def test_a_streamed_picture_that_does_not_decode_does_not_count(tmp_path: Path) -> None:
    version = write_version(tmp_path, [sample(1), {**sample(2), "image": b"GIF89a, but not really"}, sample(3)])
    made = loader(reader(version, tmp_path, where=[], batch_size=3, pictures="streamed"))
    ready = batch(made, 0)
    (piece,) = ready.pieces
    assert ready.num_damaged == {"image": 1}
    broken = np.uint64(piece.group_B.numpy().view(np.uint64)[~piece.present["image"].numpy()][0])
    names = {made.reader.raw(0).hashes_B[i]: int(made.reader.raw(0).rows_B[i]) for i in range(3)}
    assert names[broken] == 1
    assert int((~piece.present["image"]).sum()) == 2  # its two captions


def test_texts_are_different_ones_and_all_come_up(version: Version, store: Path) -> None:
    source = reader(version, store, captions_per_image=2).sources[0]
    row = int(source.rows_N[0])
    name = source.rows.uid(row)
    drawn = Counter(source.rows.text(text) for epoch in range(60) for text in source.draw_texts(epoch, row, name))
    assert set(drawn) == {source.rows.text(text) for text in source.texts_of(row)}
    assert len(drawn) == 3  # languages are left
    assert min(drawn.values()) > 20
    assert all(len(set(source.draw_texts(epoch, row, name))) == 2 for epoch in range(60))
    many = reader(version, store, captions_per_image=5).sources[0]
    assert len(many.draw_texts(0, row, name)) == 5  # only three there: they come round again


def test_held_out_languages_and_samples_stay_out(version: Version, store: Path) -> None:
    source = reader(version, store).sources[0]
    texts = version.read(["texts", "split"]).to_pylist()
    languages = [entry["languages"][0] for row in texts for entry in row["texts"]]
    assert {languages[text] for row in source.rows_N for text in source.texts_of(int(row))} == {"aa", "ab", "ac"}
    assert {texts[row]["split"] for row in source.rows_N} == {"train"}


def test_conditions_that_cannot_be_met_say_so(version: Version, store: Path) -> None:
    with pytest.raises(ConfigError, match=r"where\.0\.column = 'splitt'.*category"):
        reader(version, store, where=[{"column": "splitt", "equals": "x"}])
    with pytest.raises(ConfigError, match="none of the 48 samples"):
        read_samples(version, config(where=[{"column": "split", "equals": "test"}]).where)
    with pytest.raises(ConfigError, match="no text"):
        reader(version, store, exclude_languages=["aa", "ab", "ac", "zz"])


def test_siblings_share_a_group(version: Version, store: Path) -> None:
    (made,) = batch(loader(reader(version, store, captions_per_image=3)), 0).pieces
    assert made.group_B.tolist() == made.group_B[::3].repeat_interleave(3).tolist()
    assert len(made.group_B.unique()) == 16


def test_a_subset_from_sql_says_what_is_seen_and_how_often(version: Version, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "subset.parquet"
    names = [uid("sample", n) for n in (1, 2, 3, 4)]
    pq.write_table(pa.table({"sample_uid": [*names, "not there"], "weight": [1.0, 1.0, 2.0, 0.0, 5.0]}), path)
    source = reader(version, store, subset=str(path), batch_size=6).sources[0]
    assert len(source) == 3
    seen = Counter(source.at(np.arange(300))[1].tolist())  # 100 epochs
    assert {row: count / 300 for row, count in seen.items()} == {
        1: pytest.approx(1 / 4, abs=0.03), 2: pytest.approx(1 / 4, abs=0.03), 3: pytest.approx(1 / 2, abs=0.03),
    }  # fmt: skip
    pq.write_table(pa.table({"uid": names}), path)
    with pytest.raises(ConfigError, match="no column sample_uid"):
        reader(version, store, subset=str(path))
    pq.write_table(pa.table({"sample_uid": names[:1] * 2}), path)
    with pytest.raises(ConfigError, match="names a sample twice"):
        reader(version, store, subset=str(path))


@pytest.mark.family("F09")
def test_temperature_draws_languages_by_n_to_the_alpha(tmp_path: Path) -> None:
    samples = [sample(n) for n in range(40)]
    for n, each in enumerate(samples):
        each["texts"] = [each["texts"][0] if n < 32 else each["texts"][2]]  # 32 x aa, 8 x ac
    version = write_version(tmp_path, samples)
    shares = []
    for alpha in (1.0, 0.5, 0.0):
        source = reader(version, tmp_path, where=[], texts={"language_alpha": alpha}).sources[0]
        _, rows = source.at(np.arange(4000))
        shares.append(float((rows < 32).mean()))
    root = 32**0.5 / (32**0.5 + 8**0.5)
    assert shares == [0.8, pytest.approx(root, abs=0.01), pytest.approx(0.5, abs=0.01)]


@pytest.mark.family("F09")
@pytest.mark.parametrize(
    ("alpha", "weighted"), [(1.0, False), (0.7, False), (0.5, True), (0.5, False), (0.3, False), (0.0, False)]
)
def test_share_of_a_language_is_its_number_to_the_alpha(tmp_path: Path, alpha: float, weighted: bool) -> None:
    """F09 (c): within 4 standard deviations of 12,000 draws, of four languages, in samples of one to four texts.

    n is what a language has without the temperature: of a sample of four texts each is a quarter (with weights: by
    these) of what the text of a sample of one is. That is the number of texts where samples have as many each.
    """
    samples = [sample(number) for number in range(60)]
    for number, each in enumerate(samples):
        each["texts"] = each["texts"][: 1 + (number % 4 if number < 40 else 0)]
        for place, text in enumerate(each["texts"]):
            text["clip_score"] = (0.2 + 0.1 * place) if weighted else 0.5
    version = write_version(tmp_path, samples)
    policy = {"language_alpha": alpha, **({"weight_column": "clip_score"} if weighted else {})}
    settings = {"texts": policy, "captions_per_image": 1, "exclude_languages": []}
    source = reader(version, tmp_path, where=[], **settings).sources[0]
    without: Counter[str] = Counter()
    for each in samples:
        total = sum(text["clip_score"] for text in each["texts"])
        for text in each["texts"]:
            without[text["languages"][0]] += text["clip_score"] / total
    power = {language: n**alpha for language, n in without.items()}
    spoken = [text["languages"][0] for each in samples for text in each["texts"]]
    num_draws = 12_000
    epochs, rows = source.at(np.arange(num_draws))
    drawn = Counter(
        spoken[source.draw_texts(epoch, row, samples[row]["sample_uid"])[0]]
        for epoch, row in zip(epochs.tolist(), rows.tolist(), strict=True)
    )
    assert len(drawn) == 4
    for language, each_power in power.items():
        share = each_power / sum(power.values())
        assert abs(drawn[language] - num_draws * share) < 4 * (num_draws * share * (1 - share)) ** 0.5
    assert set(Counter(rows.tolist()).values()) == {200} or alpha < 1


@pytest.mark.family("F05")
def test_captions_are_drawn_by_a_column_of_theirs(tmp_path: Path) -> None:
    first = sample(1)
    for text, score in zip(first["texts"], (0.9, 0.1, 0.0, None), strict=True):
        text["clip_score"] = score
    version = write_version(tmp_path, [first, sample(2)])
    settings = {"texts": {"weight_column": "clip_score"}, "captions_per_image": 1, "exclude_languages": []}
    source = reader(version, tmp_path, where=[], batch_size=2, **settings).sources[0]
    drawn = Counter(source.draw_texts(epoch, 0, first["sample_uid"])[0] for epoch in range(1000))
    assert set(drawn) == {0, 1}
    assert drawn[0] / 1000 == pytest.approx(0.9, abs=0.03)
    with pytest.raises(ConfigError, match=r"weight_column = 'score'"):
        reader(version, tmp_path, where=[], texts={"weight_column": "score"})


@pytest.mark.family("F05")
def test_shares_of_sources_are_the_policys(tmp_path: Path) -> None:
    """F05 (b): within 4 standard deviations over 10,000 draws, whatever number of texts a sample has of each source."""
    with_source = pa.struct([*TEXT, ("source", pa.string())])
    schema = pa.schema([*(field for field in SCHEMA if field.name != "texts"), ("texts", pa.list_(with_source))])
    first = sample(1)
    for text, source in zip(first["texts"], ("alt", "alt", "generated", "other"), strict=True):
        text["source"] = source
    version = write_version(tmp_path, [first, sample(2)], schema=schema)
    settings = {"captions_per_image": 1, "exclude_languages": [], "texts": {"sources": {"alt": 1, "generated": 3}}}
    source = reader(version, tmp_path, where=[], batch_size=2, **settings).sources[0]
    assert len(source) == 1  # the other has no text of these sources
    drawn = Counter(source.draw_texts(epoch, 0, first["sample_uid"])[0] for epoch in range(10_000))
    for text, share in ((0, 1 / 8), (1, 1 / 8), (2, 3 / 4)):
        assert abs(drawn[text] - 10_000 * share) < 4 * (10_000 * share * (1 - share)) ** 0.5
    assert set(drawn) == {0, 1, 2}


@pytest.mark.family("F28")
def test_a_mixture_keeps_its_shares_and_each_source_its_own_order(
    version: Version, store: Path, tmp_path: Path
) -> None:
    old = write_version(tmp_path, [sample(n) for n in range(100, 130)], name="old")
    mixture = [{"version": "old", "share": 0.25}]
    source = reader(version, store, old, mixture=mixture, batch_size=1024)
    alone = reader(version, store, batch_size=1024)
    number, epochs, rows = (np.concatenate(each) for each in zip(*(source.positions(n) for n in range(8)), strict=True))
    assert (number == 1).sum() == 2048
    own_epochs, own_rows = alone.sources[0].at(np.arange(6144))
    # as in the version alone, but for the order within a block of the mixture
    assert Counter(zip(epochs[number == 0].tolist(), rows[number == 0].tolist(), strict=True)) == Counter(
        zip(own_epochs.tolist(), own_rows.tolist(), strict=True)
    )
    raw = source.raw(0)
    texts = [[t["text"] for t in row] for each in (version, old) for row in each.read(["texts"]).column(0).to_pylist()]
    for place in range(20):
        of_source = 48 * int(raw.sources_B[place]) + int(raw.rows_B[place])
        assert set(raw.texts[2 * place : 2 * place + 2]) <= set(texts[of_source])


def test_a_version_that_was_not_decontaminated_is_refused_unless_told(tmp_path: Path) -> None:
    for number, status in enumerate(("missing", "incomplete")):
        version = write_version(tmp_path, [sample(n) for n in range(4)], name=f"v{number}", decontamination=status)
        with pytest.raises(ConfigError, match=f"decontamination is '{status}'.*waived"):
            opened(version, tmp_path, where=[])
        assert opened(version, tmp_path, where=[], decontamination="waived").num_texts == 12


@pytest.mark.slow
def test_a_killed_loader_process_costs_time_and_nothing_else(version: Version, store: Path) -> None:
    source = loader(reader(version, store, pictures="streamed", loader_workers=2))
    expected = loader(reader(version, store, pictures="streamed"))
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    seen = []
    killed_at = (5, 16, 27, 38, 49)  # more often than may be in a row
    for ready in source.batches(0, 60):
        seen.append(ready.step)
        assert ready.samples_digest == batch(expected, ready.step).samples_digest
        if ready.step in killed_at:
            started = [each for each in psutil.Process().children(recursive=True) if each.pid not in before]
            readers = [each for each in started if each.ppid() != os.getpid()]  # of the fork server
            assert len(readers) >= 2
            readers[-1].kill()
    assert seen == list(range(60))
