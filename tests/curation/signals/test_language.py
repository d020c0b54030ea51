"""Which language is believed: the claim, or the model."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curation.signals.language import FastTextLanguage, model_file, primary

FRENCH = "Un petit chat gris dort sur un canapé près de la fenêtre."
NORWEGIAN = "Jeg har ikke sett noe så fint som dette huset ved sjøen i Norge noen gang, sier han."


def resolved(text: str | None, claim: str | None, **fields: object) -> str | None:
    rows = pa.table({"text_clean": pa.array([text], pa.string()), "language_claimed": pa.array([claim], pa.string())})
    language: str | None = FastTextLanguage(**fields).compute(rows).column("language")[0].as_py()
    return language


@pytest.mark.parametrize(
    ("text", "claim", "language"),
    [
        (FRENCH, None, "fr"),
        (FRENCH, "", "fr"),
        (FRENCH, "fr", "fr"),
        (FRENCH, "fr_CA", "fr-CA"),
        (FRENCH, "zh-Hant", "fr"),
        (FRENCH, "ff", "fr"),  # Fulah, which the model does not know
        ("chat", "de", "de"),  # the models do not agree
        ("ab", None, None),  # too uncertain without a claim
        (NORWEGIAN, "no", "no"),
        (NORWEGIAN, "nb", "nb"),
        (NORWEGIAN, None, "nb"),
        ("Ar vez kentañ e oa deuet ar paotr bihan d'ar skol.", "br", "br"),
        (None, "fr", None),
        (" \n\0 ", None, None),
        ("line one\nline two\0 of an English caption", "en", "en"),
    ],
)
def test_resolution(text: str | None, claim: str | None, language: str | None) -> None:
    assert resolved(text, claim) == language


def test_thresholds_are_fields() -> None:
    assert resolved(FRENCH, "zh", min_prob=1.1) == "zh"
    assert resolved("xyz abc", None) == resolved("xyz abc", None, floor=1.1)
    assert resolved(FRENCH, "ff", min_prob_unknown=1.1) == "ff"
    assert resolved(FRENCH, "zh", min_characters=100) == "zh"


def test_primary() -> None:
    assert [primary(tag) for tag in ("pt-BR", "pt_BR", "no", "nn", "zh-Hant-TW", "FR")] == [
        "pt",
        "pt",
        "nb",
        "nn",
        "zh",
        "fr",
    ]


def test_real_captions() -> None:
    """Claims that are right stay, and of wrong ones the model finds some: at least what the docstring says, here."""
    lines = (Path(__file__).parents[1] / "data" / "tux_captions.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    rows = [(tag, text) for tag, text in rows if len(text) >= 30]
    texts = pa.array([text for _, text in rows], pa.string())
    right = pa.array([tag for tag, _ in rows], pa.string())
    kept = FastTextLanguage().compute(pa.table({"text_clean": texts, "language_claimed": right})).column("language")
    wrong = pa.array(["ka" if tag != "ka" else "en" for tag, _ in rows], pa.string())
    found = FastTextLanguage().compute(pa.table({"text_clean": texts, "language_claimed": wrong})).column("language")
    assert len(rows) >= 100
    assert sum(a == b for a, b in zip(kept.to_pylist(), right.to_pylist(), strict=True)) >= 0.99 * len(rows)
    primaries = [primary(tag or "") for tag in found.to_pylist()]
    assert sum(a == primary(b) for a, b in zip(primaries, right.to_pylist(), strict=True)) >= 0.45 * len(rows)


def test_the_model_is_in_the_key_and_its_place_is_not(tmp_path: Path) -> None:
    elsewhere = tmp_path / "copy.ftz"
    elsewhere.write_bytes(model_file().read_bytes())
    assert FastTextLanguage(model=elsewhere).key() == FastTextLanguage().key()
    elsewhere.write_bytes(elsewhere.read_bytes() + b"x")
    assert FastTextLanguage(model=elsewhere).key() != FastTextLanguage().key()
