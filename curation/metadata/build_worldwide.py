"""Builds `worldwide.parquet`, the default list of entries, from Unicode CLDR and WordNet. Run by hand.

    npm pack cldr-annotations-full@48.2.0 cldr-annotations-derived-full@48.2.0 cldr-localenames-full@48.2.0
    for f in cldr-*.tgz; do mkdir ${f%.tgz} && tar xzf $f -C ${f%.tgz}; done
    python curation/metadata/build_worldwide.py FOLDER_WITH_THE_THREE curation/metadata

Unicode's Common Locale Data Repository has, for every emoji and pictograph, a name and keywords in each language, made
by its speakers: about 1,900 things, animals, foods, vehicles, activities, feelings and places, which is what pictures
on the web show. Which of them become entries of a language:

1. the numbers 0 to 99, as in MetaCLIP;
2. for English, the packaged lemmas of WordNet (`build_wordnet.py`);
3. names and keywords of pictographs (characters of category So, sequences of them, flags left out), without those for
   skin tones, with a colon (variants of another name), or longer than 40 characters or 5 words;
4. names of countries and territories.

Regional variants and scripts (pt-PT, zh-Hant, sr-Latn) are added to their language. The count is null: CLDR has none.
The order, which is the entry id, is that of the languages' tags, then that of numbers, WordNet and CLDR; within CLDR's
by spelling, which makes the file a fifth smaller.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curation.metadata_lists import Metadata, load_metadata, merged, save

VERSION = "48.2.0"
# Languages that are common on the web and those of scripts without spaces, by their CLDR names; as many as make 1.5 MB.
LANGUAGES = (  # noqa: SIM905 - a list of 53 strings is hard to read
    "ar bg bn ca cs da de el en es et eu fa fi fil fr gl he hi hr hu hy id is it ja ka km ko lo lt lv ms my nl no pl "
    "pt ro ru sk sl sq sr sv sw ta th tr uk ur vi zh"
).split()
_TAGS = {"no": "nb", "fil": "tl"}
"""What these are called in `curation.signals.language.primary`."""
_VARIANTS = {
    "en": ["en-GB", "en-AU"], "es": ["es-419", "es-MX"], "pt": ["pt-PT"], "sr": ["sr-Latn"],
    "zh": ["zh-Hant", "zh-Hant-HK"],
}  # fmt: skip
_MAX_CHARACTERS, _MAX_WORDS = 40, 5
_SKIN_TONES = {chr(code) for code in range(0x1F3FB, 0x1F400)}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _is_pictograph(sign: str) -> bool:
    """Emoji and pictographs; not letters, punctuation, signs of mathematics, skin tones and flags of letters."""
    tones = _SKIN_TONES & set(sign)
    letters = any(0x1F1E6 <= ord(char) <= 0x1F1FF or 0xE0020 <= ord(char) <= 0xE007F for char in sign)
    return not tones and not letters and any(unicodedata.category(char) == "So" for char in sign)


def names_of_pictographs(folder: Path, locale: str) -> Iterator[str]:
    """Names and keywords of one locale, in CLDR's order."""
    for package, kind in (("annotations", "annotations"), ("annotations-derived", "annotationsDerived")):
        path = folder / f"cldr-{package}-full-{VERSION}" / "package" / kind / locale / "annotations.json"
        for sign, said in _json(path).get(kind, {}).get("annotations", {}).items():
            if _is_pictograph(sign):
                yield from said.get("tts", [])
                yield from said.get("default", [])


def names_of_places(folder: Path, locale: str) -> Iterator[str]:
    """Names of countries and territories of one locale; not those of continents and the like, which have numbers."""
    path = folder / f"cldr-localenames-full-{VERSION}" / "package" / "main" / locale / "territories.json"
    names = _json(path).get("main", {}).get(locale, {}).get("localeDisplayNames", {}).get("territories", {})
    for code, name in names.items():
        if code[:2].isalpha() and code not in ("ZZ", "XA", "XB") and name != code:
            yield name


def _entry(name: str) -> str | None:
    entry = " ".join(unicodedata.normalize("NFC", name).replace("\u200b", "").split())
    letters = any(char.isalpha() for char in entry)
    fits = letters and not {":", "："} & set(entry) and len(entry) <= _MAX_CHARACTERS and entry.count(" ") < _MAX_WORDS
    return entry if fits and len(entry) > (entry.isascii()) else None


def entries(folder: Path, locale: str) -> list[tuple[str, None]]:
    """The entries of one language that CLDR has, without what becomes equal when case is folded."""
    found: dict[str, str] = {}
    for variant in (locale, *_VARIANTS.get(locale, ())):
        for name in (*names_of_pictographs(folder, variant), *names_of_places(folder, variant)):
            entry = _entry(name)
            if entry is not None:
                found.setdefault(entry.casefold(), entry)
    return [(entry, None) for entry in sorted(found.values())]


def build(folder: Path) -> Metadata:
    """The list, and what it was made from."""
    tags = {_TAGS.get(locale, locale): locale for locale in LANGUAGES}
    numbers = [(str(number), None) for number in range(100)]
    lists: list[tuple[str, str, list[tuple[str, int | None]]]] = [(tag, "numbers", list(numbers)) for tag in tags]
    lists.append(("en", "wordnet", [(entry, None) for entry in load_metadata("entries_en").entries()]))
    lists += [(tag, "cldr", list(entries(folder, locale))) for tag, locale in tags.items()]
    table = merged(sorted(tags), lists)
    counts = {name: table.column("source").to_pylist().count(name) for name in ("numbers", "wordnet", "cldr")}
    sources = [
        {"name": "numbers", "version": "", "licence": "none needed", "attribution": "0 to 99, as in MetaCLIP"},
        {"name": "wordnet", "version": "3.0", "licence": "WordNet 3.0 licence (LICENSE.wordnet.txt)",
         "attribution": "WordNet 3.0, Copyright 2006 by Princeton University"},
        {"name": "cldr", "version": VERSION, "licence": "Unicode-3.0 (LICENSE.unicode.txt)",
         "attribution": "Unicode CLDR annotations and territory names, Copyright Unicode, Inc."},
    ]  # fmt: skip
    return Metadata(table, {"sources": [{**each, "entries": counts[each["name"]]} for each in sources]})


def main(folder: Path, output: Path) -> None:
    metadata = build(folder)
    save(metadata, output / "worldwide.parquet")
    licence = (folder / f"cldr-annotations-full-{VERSION}" / "package" / "LICENSE").read_text(encoding="utf-8")
    header = (
        f"worldwide.parquet holds names from Unicode CLDR {VERSION}, chosen by build_worldwide.py. Their licence:\n\n"
    )
    (output / "LICENSE.unicode.txt").write_text(header + licence, encoding="utf-8")
    size = (output / "worldwide.parquet").stat().st_size
    print(f"{metadata.table.num_rows:,} entries in {len(metadata.languages)} languages, {size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
