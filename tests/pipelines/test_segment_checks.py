"""Recipes of video and audio that cannot run are refused at load, with the place, the value and what to do."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.recipe import load_recipe
from pipelines.yaml_place import RecipeError
from tests.stores import recipe

AV = {"modality": "av", "columns": {"url": "url", "text": ["caption", "srt"]}}
LEVELS = {"use": "curation.signals.audio_levels.AudioLevels"}
HYGIENE = {"use": "curation.signals.text_hygiene.TextHygiene"}
KEEP = [{"rule": "some", "keep": "text is not null"}]


def write(path: Path, **changes: Any) -> Path:
    content = {"source": AV, "segment": {"by": "shots"}, "signals": [LEVELS], "pack": {}, **changes}
    return recipe(
        path, content.pop("policy", KEEP), **{name: value for name, value in content.items() if value is not None}
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"segment": None}, r"source.modality: 'av' needs the field `segment`"),
        ({"source": {**AV, "modality": "image"}}, "segment: pictures are not cut into segments"),
        (
            {"source": {**AV, "modality": "image"}, "segment": None},
            r"signals\[0\]: AudioLevels is a signal of segments, but the recipe makes none",
        ),
        (
            {"source": AV["columns"] and {"columns": AV["columns"]}, "segment": None, "signals": [HYGIENE],
             "duplicates": {"perceptual": False, "segments": {}}},
            "duplicates.segments: the recipe makes no segments",
        ),
        ({"source": {**AV, "modality": "audio"}}, "segment.by: sound has no shots"),
        ({"source": {**AV, "modality": "film"}}, "source.modality"),
        ({"source": {**AV, "modality": "video"}, "segment": {"streams": "audio"}}, "segment.streams: the source is to"),
        ({"segment": {"by": "scenes"}}, "segment.by"),
        ({"segment": {"shots": {"stitching": {}}}}, "segment.shots.stitching: stitching compares features"),
        (
            {"segment": {"shots": {"stitching": {"model": "x", "scorer": "no.such.Scorer"}}}},
            "segment.shots.stitching: use: 'no.such.Scorer' cannot be imported",
        ),
        (
            {"segment": {"by": "whole", "shots": {"stitching": {"model": "x"}}}},
            "segment.shots.stitching: shots are looked for by .*'whole'",
        ),
        ({"segment": {"shots": {"detector": "transnetv2", "threshold": 27}}}, "segment.shots: .*a probability"),
        (
            {"segment": {"shots": {"detector": "transnetv2", "network": {"weights": "no/such.pth"}}}},
            "segment.shots.network: there is no file of weights 'no/such.pth'",
        ),
        ({"segment": {"subtitles": ["vtt"]}}, "segment.subtitles: 'vtt' is no text column .*valid: caption, srt"),
        ({"download": {"fetch": {"max_bytes": 1 << 32}}}, r"download.fetch.max_bytes: .*\(value: 4294967296\)"),
        (
            {"download": {"engine": "img2dataset", "allow_unguarded": True}},
            "download.engine: img2dataset fetches pictures only",
        ),
        (
            {"duplicates": {"perceptual": False, "segments": {}}},
            "duplicates.segments: copies of segments are found by their fingerprints",
        ),
        ({"policy": [{"rule": "long", "keep": "duration_seconds > 2"}]}, "policy.*duration_s"),
        ({"pack": {"blur_faces": {}}}, "pack.blur_faces: faces are blurred in pictures"),
        ({"pack": {"columns": ["frame"]}}, "pack.columns: there is no column 'frame'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "r.yaml", duplicates=changes.pop("duplicates", {"perceptual": False}), **changes)
    with pytest.raises(RecipeError, match=said) as error:
        load_recipe(path)
    assert str(path) in str(error.value)


def test_columns_of_segments_and_of_their_texts_are_known(tmp_path: Path) -> None:
    policy = [{"rule": "long", "keep": "duration_s > 2 and text_start_s is null and source_uid is not null"}]
    path = write(tmp_path / "r.yaml", duplicates={"perceptual": False}, policy=policy)
    assert load_recipe(path).segment is not None
    plain = recipe(tmp_path / "p.yaml", policy)
    with pytest.raises(RecipeError, match="duration_s"):
        load_recipe(plain)
