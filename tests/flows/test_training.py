"""flows/training.py and the training of a recipe: stages, what a step saw, versions that were not decontaminated."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from flows.main_job import Options, load
from flows.training import seen_rows, train_config
from pipelines.store import Store
from pipelines.yaml_place import RecipeError

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "pretrain"))

from tiny import sample, spec, write_version  # noqa: E402


def quiet(_: str) -> None:
    """No progress."""


def test_a_recipe_that_trains_must_decontaminate_or_say_that_it_does_not(tmp_path: Path) -> None:
    demo = yaml.safe_load((ROOT / "curation/recipes/demo.yaml").read_text())
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(demo))
    load(Options(path, tmp_path / "store"))
    train = next(each["train"] for each in demo["rounds"] if "train" in each)
    del train["decontamination"]
    path.write_text(yaml.safe_dump(demo))
    with pytest.raises(RecipeError, match=r"rounds\[0\]\.train.*no `decontaminate`.*waived"):
        load(Options(path, tmp_path / "store"))
    train["decontamination"] = "waived"
    train["stages"] = [{"stage": "a"}, {"stage": "b", "freze": []}]
    path.write_text(yaml.safe_dump(demo))
    with pytest.raises(RecipeError, match=r"(?s)rounds\[0\]\.train: stages\[1\].*freze"):
        load(Options(path, tmp_path / "store"))


def test_a_config_of_two_stages_trains_and_tells_what_it_saw(tmp_path: Path) -> None:
    store = tmp_path / "store"
    Store.create(store)
    version = write_version(store, [sample(n) for n in range(24)])
    config = spec(where=[], version=version.folder.name, stages=[{"steps": 2}, {"steps": 3, "freeze": ["*image*"]}])
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config))
    model = train_config(path, store, "serial", quiet)
    assert model.name.startswith("tiny-stage2-")
    rows = seen_rows(model, 3)
    assert len(rows) == 16
    assert set(rows[0]) == {"version", "row", "sample_uid", "epoch", "texts"}
    assert rows[0]["sample_uid"] == sample(rows[0]["row"])["sample_uid"]
    with pytest.raises(RecipeError, match="no step 4"):
        seen_rows(model, 4)
