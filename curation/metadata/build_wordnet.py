"""Builds `entries_en.txt.gz` and its licence file from WordNet 3.0. Run by hand; nothing imports it.

    apt-get download wordnet-base && dpkg-deb -x wordnet-base_*.deb wordnet
    python curation/metadata/build_wordnet.py wordnet curation/metadata

Which lemmas become entries (Debian's package wordnet-base 1:3.0-37):

1. the numbers 0 to 99, as in MetaCLIP;
2. nouns that occur in WordNet's sense-tagged texts (tag count 1 or more);
3. verbs and adjectives with a tag count of 2 or more;
4. nouns for things that one can photograph (lexicographer files animal, artifact, body, food, person, plant) that
   are never tagged, if they are one word of 3 to 10 letters: longer ones are mostly terms of biology.

Lemmas are written in lower case with spaces; those with a capital letter (names) are left out but for tagged ones,
and single letters too. The order, which is the entry id, is: numbers, then the rest by falling tag count, then by
spelling. The result is the same on every machine.
"""

from __future__ import annotations

import gzip
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# Synset types of sense keys (senseidx(5WN)): adjective satellites count as adjectives.
_PARTS_OF_SPEECH = {"1": "noun", "2": "verb", "3": "adjective", "4": "adverb", "5": "adjective"}
_MIN_TAG_COUNT = {"noun": 1, "verb": 2, "adjective": 2}
# Numbers of lexicographer files (lexnames(5WN)): animal, artifact, body, food, person, plant.
_THINGS = {"05", "06", "08", "13", "18", "20"}
_UNTAGGED_LETTERS = range(3, 11)


def tag_counts(wordnet: Path) -> dict[str, Counter[str]]:
    """Part of speech -> lemma -> number of times that it was tagged in WordNet's texts, over all senses."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in set(_PARTS_OF_SPEECH.values())}
    for line in (wordnet / "cntlist.rev").read_text().splitlines():
        sense_key, _, count = line.split()
        lemma, sense = sense_key.split("%")
        counts[_PARTS_OF_SPEECH[sense[0]]][lemma.replace("_", " ")] += int(count)
    return counts


def nouns_for_things(wordnet: Path) -> Iterator[str]:
    """Lemmas of the nouns in the lexicographer files `_THINGS`, spelt as there, with capitals."""
    for line in (wordnet / "data.noun").read_text().splitlines():
        if line.startswith(" "):
            continue  # the licence
        fields = line.split()
        if fields[1] in _THINGS:
            yield from (fields[4 + 2 * k].replace("_", " ") for k in range(int(fields[3], 16)))


def entries(wordnet: Path) -> list[str]:
    """The entries in the order of their ids."""
    ranked: Counter[str] = Counter()
    for kind, counts in tag_counts(wordnet).items():
        ranked.update({word: n for word, n in counts.items() if n >= _MIN_TAG_COUNT.get(kind, sys.maxsize)})
    for word in nouns_for_things(wordnet):
        if word.isascii() and word.isalpha() and word.islower() and len(word) in _UNTAGGED_LETTERS:
            ranked.setdefault(word, 0)
    numbers = [str(number) for number in range(100)]
    words = [word for word in ranked if len(word) > 1 and word not in numbers]
    return numbers + sorted(words, key=lambda word: (-ranked[word], word))


def main(package: Path, folder: Path) -> None:
    listed = entries(package / "usr/share/wordnet")
    text = "\n".join(listed) + "\n"
    (folder / "entries_en.txt.gz").write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    licence = (package / "usr/share/doc/wordnet-base/copyright").read_text().split("\n\n")
    wordnets = next(block for block in licence if block.startswith("Files: *"))
    lines = [line.strip() for line in wordnets.splitlines() if not line.startswith(("Files:", "License:"))]
    header = "entries_en.txt.gz holds lemmas of WordNet 3.0, chosen by build_wordnet.py. Licence of WordNet:\n\n"
    (folder / "LICENSE.wordnet.txt").write_text(header + "\n".join("" if x == "." else x for x in lines) + "\n")
    print(f"{len(listed)} entries")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
