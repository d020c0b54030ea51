"""Reading what metadata entries are made from: wordnets, page views, plain lists, corpora of texts."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

Counted = list[tuple[str, int | None]]
WORDNET_LICENCE = "WordNet licence, Copyright Princeton University"
# Wikipedia's codes that are not what BCP 47 calls the language.
_WIKIPEDIA = {"als": "gsw", "bat-smg": "sgs", "fiu-vro": "vro", "no": "nb", "simple": "en", "zh-classical": "lzh",
              "zh-min-nan": "nan", "zh-yue": "yue"}  # fmt: skip
# Open Multilingual WordNet names its files by ISO 639-3 codes; `als` is Tosk Albanian there.
_OMW = {
    "als": "sq", "arb": "ar", "bul": "bg", "cat": "ca", "cmn": "zh", "dan": "da", "ell": "el", "eng": "en", "eus": "eu",
    "fas": "fa", "fin": "fi", "fra": "fr", "glg": "gl", "heb": "he", "hrv": "hr", "ind": "id", "isl": "is", "ita": "it",
    "jpn": "ja", "lit": "lt", "nld": "nl", "nno": "nn", "nob": "nb", "pol": "pl", "por": "pt", "ron": "ro", "slk": "sk",
    "slv": "sl", "spa": "es", "swe": "sv", "tha": "th", "zsm": "ms",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Entries of one language from one source."""

    language: str
    entries: Counted
    licence: str | None = None
    version: str = ""


class MetadataError(ValueError):
    """A source of entries that cannot be used: says which file, where, and why."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file, unpacked by its ending (.gz, .bz2, .xz). Raises MetadataError where it cannot be read."""
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    try:
        with cast("BinaryIO", openers.get(path.suffix, open)(path, "rb")) as file:
            yield file
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise MetadataError(f"{path} cannot be read: {error}") from error


def lines(path: Path) -> Iterator[str]:
    """The lines of a text file without their ends; bytes that are no UTF-8 raise MetadataError with the line."""
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise MetadataError(f"{path}, line {number}: is not UTF-8 ({error.reason})") from error


def wordnet(path: Path, language: str | None = None) -> list[Found]:
    """The lemmas of a wordnet, in lower case with spaces, each once. It may be

    - a folder with WordNet's database (`data.noun` ...; nltk's `corpora/wordnet`, Debian's `wordnet-base`): the first
      lemma of each synset, as MetaCLIP takes them;
    - a file of Open Multilingual WordNet (`wn-data-fra.tab`, as nltk's `omw-1.4` has them);
    - a WN-LMF file (`.xml`, packed or not, as the package `wn` downloads them): one list for each lexicon.
    """
    if path.is_dir():
        return [Found(language or "en", _of_synsets(path), WORDNET_LICENCE)]
    if path.name.endswith(".tab"):
        return [_of_tab(path, language)]
    return _of_lmf(path, language)


def _of_synsets(folder: Path) -> Counted:
    files = [folder / f"data.{kind}" for kind in ("noun", "verb", "adj", "adv")]
    if not files[0].is_file():
        raise MetadataError(f"{folder} is no WordNet database: it has no file data.noun")
    found: dict[str, int | None] = {}
    for file in files:
        for line in lines(file):
            if not line.startswith(" "):  # the licence
                word = re.sub(r"\([a-z]+\)$", "", line.split(" ", 5)[4])  # an adjective's place: galore(ip)
                found.setdefault(word.replace("_", " ").lower())
    return list(found.items())


def _of_tab(path: Path, language: str | None) -> Found:
    found: dict[str, int | None] = {}
    header, *_ = [*lines(path), ""]
    fields = header.lstrip("# ").split("\t")
    code = re.sub(r".*-([a-z]{3})\.tab", r"\1", path.name)
    language = language or _OMW.get(code)
    if language is None:
        raise MetadataError(f"{path}: which language is {code!r}? give it as LANGUAGE={path}")
    for line in lines(path):
        columns = line.split("\t")
        if not line.startswith("#") and len(columns) >= 3 and columns[1].split(":")[-1] == "lemma":
            found.setdefault(columns[2].replace("_", " ").replace("+", "").strip().lower())
    if not found:
        raise MetadataError(f"{path} holds no lemmas (lines of synset, tab, LANG:lemma, tab, lemma)")
    licence = fields[3].strip() if len(fields) > 3 else None
    return Found(language, list(found.items()), licence)


def _of_lmf(path: Path, language: str | None) -> list[Found]:
    found: list[Found] = []
    lemmas: dict[str, int | None] = {}
    with opened(path) as file:
        try:
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                if event == "start" and element.tag == "Lexicon":
                    lemmas, about = {}, dict(element.attrib)
                elif event == "end" and element.tag == "Lemma":
                    lemmas.setdefault(element.attrib["writtenForm"].replace("_", " ").strip().lower())
                elif event == "end" and element.tag == "Lexicon":
                    tag = language or about.get("language", "und")
                    found.append(
                        Found(tag.split("-")[0], list(lemmas.items()), about.get("license"), about.get("version", ""))
                    )
                if event == "end" and element.tag in ("LexicalEntry", "Synset"):
                    element.clear()
        except (ElementTree.ParseError, KeyError) as error:
            raise MetadataError(f"{path} is no WN-LMF file: {error}") from error
    if not any(each.entries for each in found):
        raise MetadataError(f"{path} is no WN-LMF file: it has no lexicon with lemmas")
    return found


def page_views(paths: list[Path], min_views: int, most: int) -> list[Found]:
    """Wikipedia titles by their views, summed over all files, at least `min_views`, at most `most` a language.

    Files: hourly or daily page views as Wikimedia publishes them (lines of domain code, title, views, ...). Titles with
    a colon (other name spaces) are left out; only the desktop sites' lines count, as in MetaCLIP.
    """
    views: dict[str, Counter[str]] = {}
    for path in paths:
        for number, line in enumerate(lines(path), start=1):
            fields = line.split(" ")
            if len(fields) < 3 or not fields[2].isdigit():
                raise MetadataError(f"{path}, line {number}: not `domain title views ...`: {line[:80]!r}")
            code, title = fields[0], fields[1].replace("_", " ").strip()
            if title and ":" not in title and re.fullmatch(r"[a-z][a-z-]*", code):
                views.setdefault(_WIKIPEDIA.get(code, code), Counter())[title] += int(fields[2])
    found = []
    for language, counts in sorted(views.items()):
        ranked = sorted(((t, n) for t, n in counts.items() if n >= min_views), key=lambda each: (-each[1], each[0]))
        if ranked:
            found.append(Found(language, list(ranked[:most]), "titles of Wikipedia: CC BY-SA 4.0"))
    return found


def plain_list(path: Path, language: str) -> Found:
    """One entry a line, `_` for a space as in lists of titles; empty lines and later repetitions are left out."""
    found: dict[str, int | None] = {}
    for line in lines(path):
        entry = line.replace("_", " ").strip()
        if entry:
            found.setdefault(entry)
    return Found(language, list(found.items()))


def texts(path: Path, text: str, language: str | None, fixed: str | None) -> Iterator[tuple[str, str]]:
    """(language, text) of a corpus: a Parquet table with a column of texts and, unless the language is `fixed`, one of
    languages; or a text file, one text a line, of a fixed language."""
    if path.suffix != ".parquet":
        if fixed is None:
            raise MetadataError(f"{path}: which language is it in? give it as LANGUAGE={path}")
        for line in lines(path):
            yield fixed, line
        return
    try:
        opened = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise MetadataError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    with opened as file:
        columns = [text, *([language] if language and fixed is None else [])]
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing or (fixed is None and language is None):
            known = ", ".join(file.schema_arrow.names)
            asked = f"no column {missing[0]!r}" if missing else "no column of languages was named"
            raise MetadataError(f"{path}: {asked}; it has: {known}. Or give the language as LANGUAGE={path}")
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                tag = fixed or (row[language] if language else None)
                if row[text] is not None and tag:
                    yield tag.replace("_", "-").split("-")[0].lower(), row[text]
