"""Vectors of two models are compared only where they are of one space: said by their weights or by the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.signals.frame_embedding import FrameEmbedding
from curation.signals.sound_embedding import SoundEmbedding
from curation.signals.sound_picture_similarity import SoundPictureSimilarity
from pipelines.recipe import load_recipe
from pipelines.space_checks import check_spaces
from pipelines.yaml_place import Places, RecipeError
from tests.curation.signal_rows import TinyScorer
from tests.stores import recipe

SCORER = f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"
KEEP = [{"rule": "fits", "keep": "av_similarity > 0"}]


class WideScorer(TinyScorer):
    """The same, with vectors of six dimensions by its own word."""

    embed_dim = 6


WIDE = f"{WideScorer.__module__}.{WideScorer.__qualname__}"


def write(
    path: Path, picture: dict[str, Any], sound: dict[str, Any], kind: str = "frame_embedding.FrameEmbedding"
) -> Path:
    signals = [
        {"use": f"curation.signals.{kind}", "model": "one", "scorer": SCORER, **picture},
        {"use": "curation.signals.sound_embedding.SoundEmbedding", "model": "one", "scorer": SCORER, **sound},
        {"use": "curation.signals.sound_picture_similarity.SoundPictureSimilarity"},
    ]
    source = {"modality": "av", "columns": {"url": "url", "text": ["caption"]}}
    duplicates = {"perceptual": False}
    return recipe(path, KEEP, source=source, segment={"by": "shots"}, signals=signals, duplicates=duplicates, pack={})


@pytest.mark.parametrize(
    ("picture", "sound"),
    [({}, {}), ({"space": "bind"}, {"model": "two", "space": "bind"})],
    ids=["one model", "two that say the same space"],
)
@pytest.mark.parametrize("kind", ["frame_embedding.FrameEmbedding", "image_embedding.ImageEmbedding"])
def test_what_shares_a_space_is_taken(
    tmp_path: Path, kind: str, picture: dict[str, Any], sound: dict[str, Any]
) -> None:
    assert load_recipe(write(tmp_path / "r.yaml", picture, sound, kind)).segment is not None


def test_models_that_rounds_will_train_are_told_by_their_names() -> None:
    signals = [
        FrameEmbedding(model="run:first", scorer=SCORER),
        SoundEmbedding(model="run:first", scorer=SCORER),
        SoundPictureSimilarity(),
    ]
    where: list[tuple[int | str, ...]] = [("signals", k) for k in range(3)]
    check_spaces(signals, where, Places(Path("r.yaml"), None))
    with pytest.raises(RecipeError, match="different models"):
        check_spaces(
            [signals[0], SoundEmbedding(model="run:second", scorer=SCORER), signals[2]],
            where,
            Places(Path("r.yaml"), None),
        )


@pytest.mark.parametrize(
    ("picture", "sound", "said"),
    [
        ({}, {"model": "two"}, "are different models and nothing says that they share a space"),
        ({"space": "bind"}, {"model": "two"}, "of different spaces: 'bind' and None"),
        ({"space": "bind"}, {"space": "clap"}, "of different spaces: 'bind' and 'clap'"),
        ({"space": "bind"}, {"model": "two", "space": "bind", "scorer": WIDE}, "have 5 and 6 dimensions"),
        ({"name": "eye"}, {}, "reads the column 'clip_image_embedding', which no signal"),
    ],
)
def test_what_does_not_is_refused_with_its_place(
    tmp_path: Path, picture: dict[str, Any], sound: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said) as error:
        load_recipe(write(tmp_path / "r.yaml", picture, sound))
    assert "signals[2]" in str(error.value)
