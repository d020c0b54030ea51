"""Real English lines of caption length for benchmarks, and metadata entries counted in them.

The lines are prose from the files of the installed Python packages (comments, docstrings, readmes), 4 to 22 words long
as captions are; about a million on a machine where this project is installed. Entries have the shape of MetaCLIP's
500,000: about 62% of one word, 32% of two, 6% of three.
"""

import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from curation.metadata_lists import load_metadata

_WORD = re.compile(r"[^\W\d_]{2,}")


def lines(number: int) -> list[str]:
    """Distinct lines in the order of their files' names; fewer where there are not so many."""
    return list(islice(dict.fromkeys(_prose()), number))


def _prose() -> Iterator[str]:
    folder = Path(sysconfig.get_path("purelib"))
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".md", ".rst", ".txt", ".pyi")):
        for line in path.read_text(encoding="utf-8", errors="ignore").splitlines():
            text = line.strip().lstrip("#*-> ").strip()
            words = text.split()
            if (
                4 <= len(words) <= 22
                and len(text) < 200
                and 1.25 * sum(map(len, _WORD.findall(text))) > len(text) * 0.9
            ):
                yield text


def entries(texts: list[str], number: int) -> list[str]:
    """The packaged English entries, then the most frequent words, pairs and triples of words of the texts."""
    counts: list[Counter[str]] = [Counter(), Counter(), Counter()]
    for text in texts:
        words = re.sub(r"[,.;:?!`]", " ", text).split()
        for size in (1, 2, 3):
            counts[size - 1].update(" ".join(words[k : k + size]) for k in range(len(words) - size + 1))
    chosen = dict.fromkeys(load_metadata("entries_en").entries())
    for size, share in ((1, 0.62), (2, 0.94), (3, 1.0)):
        for entry, _ in counts[size - 1].most_common():
            if len(chosen) >= share * number:
                break
            chosen.setdefault(entry)
    for entry, _ in counts[1].most_common():
        if len(chosen) >= number:
            break
        chosen.setdefault(entry)
    return list(chosen)
