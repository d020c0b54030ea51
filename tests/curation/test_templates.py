"""Templates: which tags they take, and that a sample's texts are its own affair."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from curation.generator import Sample, Written, generator_class, prompt_hash
from curation.generators.templates import Templates


def sample(uid: str, *texts: tuple[str, str | None], **columns: str | None) -> Sample:
    rows: list[dict[str, Any]] = [
        {"text_uid": f"{uid}-{place}", "text": text, "language_claimed": language, **columns}
        for place, (text, language) in enumerate(texts)
    ]
    return Sample(uid, rows)


def test_tags_of_columns_are_each_named_once_in_every_language() -> None:
    generator = Templates(
        source="tags", columns=["kind", "tags"], templates={"en": ["a {tags}"], "de": ["Bild: {tags}"]}, most=2
    )
    tagged = sample("s", ("x", "en"), ("y", "fr"), kind="bird", tags='["bird", " blue", null, "sky"]')
    found = generator.write([tagged, sample("t", ("x", "en"))])
    assert found == [[Written("a bird, blue", "en", "a {tags}"), Written("Bild: bird, blue", "de", "Bild: {tags}")], []]
    odd = sample("s", ("x", "en"), kind="[not JSON", tags=" ")
    assert generator.write([odd])[0][0].text == "a [not JSON"
    bare = Sample("u", [], None, [{"text_uid": "u-0", "text": None, "language_claimed": None, "kind": "bird"}])
    assert generator.write([bare])[0][0] == Written("a bird", "en", "a {tags}")
    with pytest.raises(ValueError, match=r"must have \{tags\} in it, once"):
        Templates(source="t", columns=["kind"], templates={"en": ["{tags:>9}"]})


def test_entries_are_those_of_the_language_and_none_stands_within_another(tmp_path: Path) -> None:
    listed = tmp_path / "entries.json"
    listed.write_text(
        json.dumps({"en": ["fire", "fire engine", "engine", "sea", "dog"], "de": ["Hund"], "fr": ["chien"]})
    )
    templates = {"en": ["{tags}"], "de": ["{tags}"]}
    generator = Templates.model_validate(
        {"source": "e", "entries": {"entries": str(listed)}, "templates": templates, "most": 9}
    )
    found = generator.write(
        [sample("s", ("?!", "en"), ("A fire engine by the sea", "en-GB"), ("Ein Hund", "de"), ("un chien", "fr"))]
    )[0]
    assert [(each.language, each.parent) for each in found] == [("en", "s-1"), ("de", "s-2")]
    assert [each.text for each in found] == ["fire engine, sea", "Hund"]


def test_the_template_is_drawn_by_the_sample_alone() -> None:
    several = [f"{number} {{tags}}" for number in range(4)]
    generator = Templates(source="t", columns=["kind"], templates={"en": several})
    samples = [sample(f"s{n}", ("x", "en"), kind="cat") for n in range(40)]
    found = generator.write(samples)
    assert {each[0].prompt for each in found} == set(several)
    assert [generator.write([each])[0] for each in samples] == found
    assert generator.changed(seed=1).write(samples) != found


def test_the_revision_is_that_of_all_that_matters() -> None:
    generator = Templates(source="t", columns=["kind"])
    assert pickle.loads(pickle.dumps(generator)).revision() == generator.revision()  # noqa: S301 - made here
    others = [
        generator.changed(seed=1),
        generator.changed(templates={"en": ["{tags}"]}),
        generator.changed(shear="words"),
        Templates.model_validate({"source": "t", "entries": {}}),
        Templates.model_validate({"source": "t", "entries": {"mode": "strict"}}),
    ]
    assert len({each.revision() for each in [generator, *others]}) == 6
    assert prompt_hash("a") != prompt_hash("b")


@pytest.mark.parametrize("use", ["curation.generator.Generator", "curation.generator", "Templates", "no.such.Thing"])
def test_what_is_no_generator_is_refused(use: str) -> None:
    with pytest.raises(ValueError, match="use: "):
        generator_class(use)
