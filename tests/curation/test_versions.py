"""Which version a name means: the same for the store and for training, whatever the files' dates."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.versions import matching, sealed_versions
from pipelines.store import State, Store, StoreError
from pretrain.version import VersionError, find_version

NAMES = ("pool-aaaaaa111111", "pool-bbbbbb222222", "cafe-aaaaaa333333", "copied-dddddd444444")


def store_of(root: Path, packed: list[str]) -> Store:
    """Versions whose manifests are dated in the order of NAMES, and a state that names `packed`."""
    store = Store.create(root)
    for age, name in enumerate(NAMES):
        folder = store.root / "versions" / name
        folder.mkdir(parents=True)
        manifest = {"format": "tamis.dataset/1", "name": name, "digest": name[-12:].ljust(64, "0"), "num_samples": 1,
                    "num_texts": 1, "shards": [{"name": "x", "num_samples": 1}]}  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest))
        os.utime(folder / "manifest.json", (1000 + age, 1000 + age))
    store.save_state(State(versions=packed))
    return store


@pytest.mark.parametrize(
    ("packed", "wanted", "meant"),
    [
        ([NAMES[1], NAMES[2], NAMES[0]], "latest", NAMES[0]),  # packed last, though not the newest file
        ([NAMES[1], NAMES[0]], "pool", NAMES[0]),
        ([], "latest", NAMES[3]),  # a store whose versions were all copied in
        ([], "pool", NAMES[1]),
        ([NAMES[0]], "pool", NAMES[0]),  # what the state names comes behind what it does not
        ([NAMES[0]], "copied", NAMES[3]),
        ([NAMES[0]], "dddddd", NAMES[3]),
        ([NAMES[0]], "d" * 6 + "4" * 6 + "0" * 52, NAMES[3]),  # a whole digest, as runs note it
        ([NAMES[0]], "cafe", NAMES[2]),  # a name that could be a digest is a name
        ([NAMES[0]], NAMES[1], NAMES[1]),
        ([NAMES[0]], "aaaaaa", None),
        ([NAMES[0]], "po", None),
        ([NAMES[0]], "eeeeee", None),
    ],
)
def test_store_and_training_mean_the_same_version(
    tmp_path: Path, packed: list[str], wanted: str, meant: str | None
) -> None:
    store = store_of(tmp_path / "store", packed)
    if meant is None:
        with pytest.raises(StoreError, match="pool-aaaaaa111111"):
            store.version_path(wanted)
        with pytest.raises(VersionError, match="aaaaaa"):
            find_version(store.root, wanted)
    else:
        assert store.version_path(wanted).name == meant
        assert find_version(store.root, wanted).folder.name == meant


def test_a_state_that_cannot_be_read_leaves_the_dates(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", [NAMES[0]])
    for content in ("{", "[]", '{"versions": 3}'):
        (store.root / "state.json").write_text(content)
        assert [folder.name for folder in sealed_versions(store.root)] == list(NAMES)


@given(st.lists(st.from_regex(r"\A[a-c]{1,2}-[ab]{4}\Z"), unique=True, max_size=6), st.text("abc-", max_size=8))
def test_what_is_meant_is_among_them_and_whole_names_are_clear(names: list[str], wanted: str) -> None:
    folders = [Path(name) for name in names]
    found = matching(folders, wanted)
    assert set(found) <= set(folders)
    assert all(matching(folders, name) == [Path(name)] for name in names)
    if wanted in {name.split("-")[0] for name in names}:
        assert found == [[folder for folder in folders if folder.name.startswith(f"{wanted}-")][-1]]
