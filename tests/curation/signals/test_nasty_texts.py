"""Every text signal on texts that nobody would write: what it says stays within what its docstring promises."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curation.fitted import FittedSignal
from curation.signal import ColumnSignal, Signal
from curation.signals.boilerplate import is_boilerplate, is_file_name
from curation.signals.caption_statistics import CaptionStatistics
from curation.signals.language import FastTextLanguage, primary
from curation.signals.text_hygiene import TextHygiene, repair
from tests.curation.test_signal_laws import SIGNALS

FAMILY = "👨\u200d👩\u200d👧\u200d👦"
NASTY: dict[str, str] = {
    "one letter": "a",
    "one emoji": "🦊",
    "emoji alone": "🐸🦊🐧🎉✨",
    "a family joined": FAMILY,
    "flags": "🇩🇪🇫🇷🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "skin tones": "👍🏿👍🏻👍🏽",
    "joiners alone": "\u200d\u200c\u200d",
    "overridden": "\u202egpj.god\u202c a dog \u2066x\u2069",
    "overridden without an end": "photo \u202e\u202e\u202e",
    "nul": "a\0dog\0",
    "nul alone": "\0\0\0",
    "escapes": "\x1b[31mred\x1b[0m \x1b]0;title\x07dog \x9b1m",
    "zalgo": "d" + "\u0300\u0315\u0327" * 40 + "o" + "\u0489" * 30 + "g",
    "marks alone": "\u0301\u0302\u0315",
    "mixed scripts": "Dоg сat 犬 ไทย العربية हिन्दी Ω λ",
    "look-alikes": "раураl аррlе",
    "fullwidth": "Ａ　ｄｏｇ　１２３",
    "letters of mathematics": "𝒜 𝔡𝔬𝔤 𝟙𝟚𝟛",
    "no words": "!?... --- ***",
    "an address": "https://example.com/a/b?c=d&e=%20f#g",
    "several addresses": "http://a.example http://b.example/x.jpg www.c.example",
    "a file": "IMG_20210506_123045 (2).JPG",
    "a path": r"C:\Users\me\Pictures\dog.png",
    "entities": "&lt;b&gt;a dog&lt;/b&gt; &amp;amp; &#128054; &nbsp;",
    "markup": "<img src=x onerror=alert(1)> a dog",
    "sql": "'; drop table texts; --",
    "a label": "__label__en __label__positive dog",
    "format strings": "%s %d {0} {name} ${HOME} $(id)",
    "lines": "a\ndog\r\nin\u2028the\u2029park\x0b\x0c\x85end",
    "numbers": "1234567890 12,345.67 ½ ² ٣٤٥",
    "right to left": "كلب يلعب في الحديقة مع 3 أطفال",
    "without spaces": "犬が公園で遊んでいる" * 20,
    "thai": "สุนัขเล่นอยู่ในสวน",
    "private use": "\ue000\ue001 \uf8ff dog",
    "beyond the planes": "\U000e0001\U000e0061 dog \U0010ffff \U000f0000",
    "replaced": "caf\ufffd\ufffd dog",
    "a long word": "a" * 5000,
    "one word again": "dog " * 2000,
    "only spaces within": "a" + "\u3000" * 500 + "b",
}
CLEAN = [repair(text)[0] for text in NASTY.values()]
SHARES = re.compile(r"share_|_share$|_prob$|_probability$|_confidence$|repetition$|^draw$")
OF_TEXTS = [
    signal
    for signal in SIGNALS
    if isinstance(signal, ColumnSignal)
    and not isinstance(signal, FittedSignal)
    and signal.level == "text"
    and set(signal.reads()) <= {"text", "text_clean", "language", "language_claimed"}
]


def rows(texts: list[str | None]) -> pa.Table:
    count = len(texts)
    return pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "text_clean": pa.array([repair(text)[0] if text else None for text in texts], pa.string()),
            "language": pa.array(["en"] * count, pa.string()),
            "language_claimed": pa.array([None] * count, pa.string()),
        }
    )


def named(signal: Signal) -> str:
    return type(signal).__name__


@pytest.mark.parametrize("signal", OF_TEXTS, ids=named)
def test_what_is_said_of_them_stays_in_its_range(signal: Any) -> None:
    table = signal.compute(rows(list(NASTY.values())))
    assert table.num_rows == len(NASTY)
    table.validate(full=True)
    for name in table.column_names:
        column = table.column(name).drop_null()
        if pa.types.is_floating(column.type):
            assert np.isfinite(column.to_numpy()).all(), name
        if SHARES.search(name):
            assert ((column.to_numpy() >= 0) & (column.to_numpy() <= 1)).all(), name
        if name.startswith("num_") or name == "longest_run":
            assert pc.min(column).as_py() in (None, *range(10_000)), name
    alone = pa.concat_tables([signal.compute(rows([text])) for text in list(NASTY.values())[:12]])
    assert alone.combine_chunks().equals(table.slice(0, 12).combine_chunks())


def test_all_signals_of_texts_are_among_them() -> None:
    assert {"TextHygiene", "CaptionStatistics", "FastTextLanguage", "Repetition", "Boilerplate", "PersonalData",
            "ToxicWords", "TextQuality", "MetadataEntries", "TextEmbedding"} <= set(map(named, OF_TEXTS))  # fmt: skip


def test_what_is_left_of_them() -> None:
    clean = dict(zip(NASTY, CLEAN, strict=True))
    assert clean["overridden"] == "gpj.god a dog x"
    assert (clean["nul"], clean["nul alone"], clean["joiners alone"]) == ("adog", None, None)
    assert clean["escapes"] == "red dog "[:-1]
    assert clean["a family joined"] == FAMILY
    assert clean["lines"] == "a dog in the park end"
    assert clean["beyond the planes"] is not None
    assert "\U000e0061" not in clean["beyond the planes"]
    controls = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffd]")
    assert not any(controls.search(text) for text in CLEAN if text)
    # and repairing them again finds nothing to do
    again = TextHygiene().compute(rows([text or "" for text in CLEAN]))
    assert set(again.column("num_text_repairs").to_pylist()) == {0}


@pytest.mark.parametrize("name", ["an address", "a file", "a path", "no words", "emoji alone"])
def test_what_says_nothing(name: str) -> None:
    text = NASTY[name]
    assert is_boilerplate(text) or name == "emoji alone"
    assert is_file_name(text) == (name in ("an address", "a file", "a path"))


def test_scripts_and_look_alikes() -> None:
    found = CaptionStatistics().of_texts([NASTY["look-alikes"], NASTY["fullwidth"], NASTY["zalgo"], "🦊", "Ω λ cat"])
    assert found["script"] == ["Cyrillic", "Latin", "Latin", None, "Latin"]


HOSTILE: dict[str, str] = {
    "digits": "1 " * 5_000,
    "one letter": "a" * 100_000,
    "letters by lot": "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=50_000)),
    "addresses of machines": "8.8.8.8 " * 3_000,
    "at signs": "a@" * 50_000,
    "beginnings of titles": "\x9d" * 50_000 + "\x1b]" * 50_000,
    "beginnings of colours": "\x1b[" * 50_000,
    "marks by turns": "a" + "\u0315\u0300" * 50_000,
    "joiners": "\u200d" * 100_000,
    "tags": "\U000e0061" * 50_000,
    "phones": "+49 30 1234567, " * 1_000,
    "quotes": "'\"" * 50_000,
    "kana": "ア" * 50_000,
    "dashes": "a-" * 50_000,
    "underscores": "a_1_" * 60,
    "brackets": "(" * 50_000,
}


@pytest.mark.parametrize("signal", OF_TEXTS, ids=named)
def test_hostile_texts_cost_little(signal: Any) -> None:
    """Each is hundreds of times as long as a caption; what grows with the square of the length would take minutes."""
    table = rows(list(HOSTILE.values()))
    signal.compute(table.slice(0, 1))  # models are loaded
    started = time.process_time()
    signal.compute(table)
    assert time.process_time() - started < 6


def test_languages_of_real_captions_in_79_languages() -> None:
    """Without claims, texts of 30 characters or more: what the docstring says of fastText's guess, here with CLD2's."""
    lines = (Path(__file__).parents[1] / "data" / "tux_captions.tsv").read_text().splitlines()
    pairs = [line.split("\t") for line in lines if not line.startswith("#")]
    pairs = [(tag, text) for tag, text in pairs if len(text) >= 30]
    assert len({primary(tag) for tag, _ in pairs}) >= 60
    claimed = pa.table(
        {
            "text_clean": pa.array([text for _, text in pairs], pa.string()),
            "language_claimed": pa.array([tag for tag, _ in pairs], pa.string()),
        }
    )
    right = [primary(tag) for tag, _ in pairs]
    found = FastTextLanguage().compute(claimed).column("language").to_pylist()
    share = sum(primary(a or "") == b for a, b in zip(found, right, strict=True)) / len(right)
    assert share >= 0.95
