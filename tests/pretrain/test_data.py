"""pretrain/data.py: a global order that knows no workers, and what is read of a version."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import config, sample, write_version

from pretrain.config import ConfigError, TrainConfig
from pretrain.data import Reader, read_samples, training_samples
from pretrain.pictures import cached_pictures
from pretrain.version import Version


def reader(version: Version, store: Path, **changes: object) -> Reader:
    settings: TrainConfig = config(**changes)
    model = settings.model.build(settings.image_size)
    pixels, _ = cached_pictures(store / "cache" / "pictures", version, model.image_size, model.fit)
    return Reader(version.digest, training_samples(version, settings), pixels, settings, model)


def test_workers_see_the_parts_of_the_same_global_batch(version: Version, store: Path) -> None:
    source = reader(version, store)
    for step in (0, 3):  # the fourth batch crosses an epoch's end
        whole = source.batch(step)
        for num_workers in (2, 4):
            parts = [source.batch(step, rank, num_workers) for rank in range(num_workers)]
            images = torch.cat([part.inputs["image"]["image_BCHW"] for part in parts])
            torch.testing.assert_close(images, whole.inputs["image"]["image_BCHW"], atol=1e-6, rtol=0)
            assert torch.equal(torch.cat([part.group_B for part in parts]), whole.group_B)
            ids = torch.cat([part.inputs["text"]["ids"] for part in parts])
            assert torch.equal(ids, whole.inputs["text"]["ids"])


def test_every_sample_once_an_epoch_and_each_epoch_in_its_own_order(version: Version, store: Path) -> None:
    source = reader(version, store, batch_size=16)
    num = len(source.samples)
    assert num == 40
    epochs: dict[int, list[int]] = {}
    for step in range(10):  # 160 rows = 4 epochs, with batches across their borders
        for epoch, index in zip(*source.positions(step), strict=True):
            epochs.setdefault(int(epoch), []).append(int(index))
    assert {epoch: sorted(seen) for epoch, seen in epochs.items()} == {epoch: list(range(num)) for epoch in range(4)}
    assert len({tuple(seen) for seen in epochs.values()}) == 4


def test_order_depends_on_version_and_seed_only(version: Version, store: Path) -> None:
    first, again, seed = reader(version, store), reader(version, store), reader(version, store, seed=1)
    other = Reader("ff" * 32, first.samples, first.pixels_NSSC, first.config, first.model)
    orders = [each.positions(0)[1].tolist() for each in (first, again, seed, other)]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3


def test_prefetched_batches_are_the_batches(version: Version, store: Path) -> None:
    source = reader(version, store)
    for step, batch in source.batches(2, 6, rank=1, num_workers=2):
        assert torch.equal(batch.group_B, source.batch(step, 1, 2).group_B)
    assert list(source.batches(3, 3)) == []


def test_texts_are_different_ones_and_all_come_up(version: Version, store: Path) -> None:
    source = reader(version, store, captions_per_image=2)
    drawn = Counter(text.text for epoch in range(60) for text in source.choose_texts(epoch, 0))
    assert set(drawn) == {text.text for text in source.samples.texts[0]}  # three languages are left
    assert min(drawn.values()) > 20
    assert all(len({text.text for text in source.choose_texts(epoch, 0)}) == 2 for epoch in range(60))
    many = reader(version, store, captions_per_image=5)
    assert len(many.choose_texts(0, 0)) == 5  # only three there: they come round again


def test_held_out_languages_and_samples_stay_out(version: Version) -> None:
    samples = training_samples(version, config())
    languages = {language for texts in samples.texts for text in texts for language in text.languages}
    assert languages == {"aa", "ab", "ac"}
    split = np.array(version.read(["split"]).column(0).to_pylist())
    assert set(split[samples.rows]) == {"train"}


def test_a_text_in_a_seen_language_too_is_kept(tmp_path: Path) -> None:
    shared = sample(1)
    shared["texts"] = [{**shared["texts"][0], "languages": ["zz", "aa"], "language": "zz"}]
    unknown = sample(2)
    unknown["texts"] = [{**unknown["texts"][0], "languages": [], "language": None}]
    only = sample(3)
    only["texts"] = [{**only["texts"][0], "languages": None, "language": "zz"}]
    version = write_version(tmp_path, [shared, unknown, only])
    samples = training_samples(version, config(where=[]))
    assert samples.uids == [shared["sample_uid"], unknown["sample_uid"]]


def test_conditions_that_cannot_be_met_say_so(version: Version) -> None:
    with pytest.raises(ConfigError, match=r"where\.0\.column = 'splitt'.*category"):
        read_samples(version, config(where=[{"column": "splitt", "equals": "x"}]).where)
    with pytest.raises(ConfigError, match="none of the 48 samples"):
        read_samples(version, config(where=[{"column": "split", "equals": "test"}]).where)
    with pytest.raises(ConfigError, match="no text"):
        training_samples(version, config(exclude_languages=["aa", "ab", "ac", "zz"]))


def test_siblings_share_a_group(version: Version, store: Path) -> None:
    batch = reader(version, store, captions_per_image=3).batch(0)
    assert batch.group_B.tolist() == batch.group_B[::3].repeat_interleave(3).tolist()
    assert len(batch.group_B.unique()) == 16
