"""Words and pairs of words of a text corpus, counted, as metadata entries.

Source: MetaCLIP, arXiv 2309.16671, section 3.1: the words of Wikipedia that occur 100 times or more, and the pairs of
words with a high pointwise mutual information. MetaCLIP 2 takes a share of the words by count instead.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from curation.entry_forms import CLUSTER

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
MAX_PAIRS = 5_000_000
"""Distinct pairs held at once (about 1 GB). Beyond it the rarest are dropped, so that a pair's count can come out too
low by as many as were dropped with it (lossy counting); pairs that matter occur far more often."""


class Ngrams:
    """Counts of words and of pairs of neighbouring words; in scripts without spaces, of characters.

    Words keep their case. Two words are neighbours if nothing but one space, or nothing at all, stands between them.
    """

    def __init__(self, max_pairs: int = MAX_PAIRS) -> None:
        self.words: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str, bool]] = Counter()
        """(word, word, whether a space is between them)."""
        self.num_words = 0
        self.dropped_below = 0
        """Pairs that may have been dropped have at most this count."""
        self._max_pairs = max_pairs

    def add(self, text: str) -> None:
        """Count one text."""
        before, end = "", -2
        for begin, stop, word in _words(text):
            self.words[word] += 1
            self.num_words += 1
            gap = text[end:begin] if end >= 0 else None
            if before and gap in ("", " "):
                self.pairs[before, word, gap == " "] += 1
            before, end = word, stop
        if len(self.pairs) > self._max_pairs:
            self._drop_rarest()

    def _drop_rarest(self) -> None:
        while len(self.pairs) > self._max_pairs // 2:
            self.dropped_below += 1
            self.pairs = Counter({pair: n for pair, n in self.pairs.items() if n > self.dropped_below})

    def unigrams(self, min_count: int, share: float, most: int) -> list[tuple[str, int | None]]:
        """Words with at least `min_count` occurrences, of these the first `share` by count, at most `most`.

        By falling count, then by spelling.
        """
        ranked = sorted(((w, n) for w, n in self.words.items() if n >= min_count), key=lambda each: (-each[1], each[0]))
        return list(ranked[: min(most, math.ceil(share * len(ranked)))])

    def bigrams(self, min_count: int, min_pmi: float, most: int) -> list[tuple[str, int | None]]:
        """Pairs with at least `min_count` occurrences and a PMI of `min_pmi` bits, at most `most`, by falling PMI.

        PMI = log2(p(a, b) / (p(a) p(b))), probabilities as shares of all words. It is highest for pairs of rare words,
        hence `min_count`. MetaCLIP's threshold of 30 is for counts over all of Wikipedia.
        """
        found = []
        for (a, b, spaced), n in self.pairs.items():
            if n >= max(min_count, self.dropped_below):
                pmi = math.log2(n * self.num_words / (self.words[a] * self.words[b]))
                if pmi >= min_pmi:
                    found.append((-pmi, f"{a} {b}" if spaced else a + b, n))
        return [(entry, n) for _, entry, n in sorted(found)[:most]]


def _words(text: str) -> list[tuple[int, int, str]]:
    """Where each word begins and ends, and the word; characters of scripts without spaces one by one."""
    found = []
    for match in _WORD.finditer(text):
        end = match.start()
        for cluster in CLUSTER.finditer(text, match.start(), match.end()):
            if cluster.start() > end:
                found.append((end, cluster.start(), text[end : cluster.start()]))
            found.append((cluster.start(), cluster.end(), cluster.group()))
            end = cluster.end()
        if match.end() > end:
            found.append((end, match.end(), text[end : match.end()]))
    return found
