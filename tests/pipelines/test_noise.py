"""Noise: nested versions with exactly the planned captions replaced, each by one of another sample."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.noise import FLAG, PLAN, Noisy, add_noise
from pipelines.selections import find_selection
from pipelines.store import Store, StoreError
from pipelines.verify import verify_store
from pretrain.dataset import open_data
from pretrain.version import open_version
from tests.pretrain.tiny import config
from tests.stores import digests, tamis

SHARES = [0.0, 0.05, 0.1, 0.2]


@pytest.fixture(scope="module")
def store(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("noise") / "store"
    shutil.copytree(finished, root)
    return root


@pytest.fixture(scope="module")
def sweep(store: Path) -> list[Noisy]:
    return add_noise(Store.open(store), "latest", SHARES, 0, lambda _: None)


def texts_of(store: Path, version: str) -> dict[str, list[dict[str, Any]]]:
    """Sample -> its texts, by shard and row as the version has them."""
    folder = store / "versions" / version
    manifest = json.loads((folder / "manifest.json").read_text())
    rows = [row for shard in manifest["shards"] for row in pq.read_table(folder / shard["name"]).to_pylist()]
    return {row["sample_uid"]: row["texts"] for row in rows}


@pytest.mark.family("F03")
def test_four_nested_versions_hold_exactly_the_planned_replacements(store: Path, sweep: list[Noisy]) -> None:
    clean = texts_of(store, sweep[0].version)
    num_texts = sum(map(len, clean.values()))
    assert [each.num_replaced for each in sweep] == [int(num_texts * share + 1e-9) for share in SHARES]
    assert sweep[0].version == Store.open(store).version_path().name  # no noise: the version itself
    assert sweep[1].num_replaced > 0
    own = {sample: {text["text"] for text in texts} for sample, texts in clean.items()}
    owners: dict[tuple[str, str | None], set[str]] = {}
    for sample, texts in clean.items():
        for text in texts:
            owners.setdefault((text["text"], text["language"]), set()).add(sample)
    before: dict[tuple[str, int], str] = {}
    for noisy in sweep[1:]:
        found = texts_of(store, noisy.version)
        assert list(found) == list(clean)  # samples, shards and order
        replaced = {}
        for sample, texts in found.items():
            assert len(texts) == len(clean[sample])
            for place, (text, was) in enumerate(zip(texts, clean[sample], strict=True)):
                if not text[FLAG]:
                    assert {name: value for name, value in text.items() if name != FLAG} == was
                    continue
                replaced[sample, place] = text["text"]
                assert text["text"] not in own[sample]
                assert text["language"] == was["language"]
                assert owners[text["text"], text["language"]] - {sample}
                assert text["num_words"] is None  # it was that of the other caption
                assert text["text_uid"] not in {each["text_uid"] for each in clean[sample]}
        assert len(replaced) == noisy.num_replaced
        assert before.items() <= replaced.items()  # nested, with the same captions
        before = replaced
        plan = pq.read_table(next((store / "versions" / noisy.version / PLAN).iterdir())).to_pylist()
        assert [row["place"] for row in plan] == list(range(noisy.num_replaced))
        uids = {
            text["text_uid"]: (sample, place) for sample, texts in clean.items() for place, text in enumerate(texts)
        }
        assert {uids[row["text_uid"]]: row["replacement"] for row in plan} == replaced
        assert all(row["sample_uid"] != row["replacement_sample_uid"] for row in plan)


@pytest.mark.family("F03")
def test_each_is_a_version_like_any_other(store: Path, sweep: list[Noisy]) -> None:
    assert verify_store(Store.open(store), lambda _: None) == []
    clean = open_version(store / "versions" / sweep[0].version)
    settings = config(decontamination="waived", where=[])
    model = settings.model.build(settings.image_size)
    for noisy in sweep[1:]:
        version = open_version(store / "versions" / noisy.version)
        assert (version.num_samples, version.num_texts) == (clean.num_samples, clean.num_texts)
        assert version.decontamination == clean.decontamination
        assert version.read(["image"]).equals(clean.read(["image"]))
        manifest = json.loads((store / "versions" / noisy.version / "manifest.json").read_text())
        batch = open_data(settings, [version.folder], store / "cache", model).reader.raw(0)
        assert len(batch.texts) == settings.batch_size * settings.captions_per_image
        assert set(batch.texts) <= {text["text"] for texts in texts_of(store, noisy.version).values() for text in texts}
        assert manifest["noise"]["of"] == sweep[0].version
        assert (manifest["noise"]["share"], manifest["noise"]["num_replaced"]) == (noisy.share, noisy.num_replaced)
    assert Store.open(store).version_path().name == sweep[0].version  # `latest` is not a noisy one


def test_again_is_the_same_and_another_seed_is_another_plan(store: Path, sweep: list[Noisy]) -> None:
    before = digests(store / "versions")
    again = add_noise(Store.open(store), "latest", SHARES[::-1], 0, lambda _: None)
    assert [each.version for each in again] == [each.version for each in sweep]
    assert not any(each.is_new for each in again)
    assert digests(store / "versions") == before
    (other,) = add_noise(Store.open(store), "latest", [0.2], 1, lambda _: None)
    assert other.version != sweep[3].version
    assert texts_of(store, other.version) != texts_of(store, sweep[3].version)


def test_mistakes_are_named(store: Path, sweep: list[Noisy]) -> None:
    found = Store.open(store)
    for shares in ([1.0], [-0.1], [0.1, 0.1], []):
        with pytest.raises(StoreError, match=r"give different numbers from 0 to 0\.9"):
            add_noise(found, "latest", shares, 0, print)
    with pytest.raises(StoreError, match=f"has noise already: add it to {sweep[0].version}"):
        add_noise(found, sweep[1].version, [0.1], 0, print)
    with pytest.raises(StoreError, match=f"`tamis noise` made it of {sweep[0].version}: name that one"):
        find_selection(found, sweep[1].version)
    done = tamis("noise", store, "--shares", "a,b")
    assert done.returncode == 2
    assert "--shares: could not convert string to float: 'a'" in done.stderr
    done = tamis("noise", store, "--shares", "0,0.1")
    assert done.returncode == 0
    assert sweep[2].version in done.stdout
