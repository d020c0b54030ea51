"""What an English caption names, and how these things stand to each other: noun phrases and relations by rules.

No model and no dictionary: closed classes of words, endings, and lists of common adjectives, verbs and measures
(`caption_words`). It is made for captions (noun phrases, prepositions, few verbs), not for prose. What it gets wrong is
measured on hand-checked captions (`tests/curation/test_caption_tags.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from curation import caption_words as words

REVISION = 1
"""Of the rules and lists: changes whenever a caption could be parsed otherwise."""
MAX_CHARACTERS = 10_000
"""Of a text that is parsed; a caption is far shorter."""
MAX_NEGATIVES = 8
"""Of a text: each is as long as the text, and of a long list of things there would be as many."""
_TOKEN = re.compile(r"[^\W_]+(?:['’‘.-][^\W_]+)*|[^\w\s]", re.UNICODE)
Kind = Literal["roles", "attributes"]


@dataclass(frozen=True)
class Phrase:
    """A noun phrase without its determiner. start, end: characters of the caption; begin: with the determiner.

    attributes: what stands before the noun and is no noun; nouns: the noun with the nouns before it, as written.
    """

    begin: int
    start: int
    end: int
    attributes: tuple[str, ...]
    nouns: tuple[str, ...]

    def tags(self) -> tuple[str, ...]:
        """The thing, as compound and by its last noun alone: `tow truck`, `truck`. None for what names nothing."""
        head = singular(self.nouns[-1])
        if head in words.NOT_TAGS or len(head) < 2 or not head[0].isalpha():
            return ()
        whole = " ".join([*(noun.lower() for noun in self.nouns[:-1]), head])
        return (whole,) if whole == head else (whole, head)


@dataclass(frozen=True)
class Relation:
    """`relation` as written, such as `on`, `wearing` or `parked in front of`."""

    subject: Phrase
    relation: str
    object: Phrase


@dataclass(frozen=True)
class Parsed:
    """phrases in the order of the caption; relations between neighbours among them."""

    phrases: tuple[Phrase, ...]
    relations: tuple[Relation, ...]

    def tags(self) -> list[str]:
        """Each once, in the order of the caption."""
        return list(dict.fromkeys(tag for phrase in self.phrases for tag in phrase.tags()))


@dataclass(frozen=True)
class _Token:
    text: str
    start: int
    end: int

    @property
    def low(self) -> str:
        return self.text.lower().replace("’", "'")

    @property
    def is_word(self) -> bool:
        return self.text[0].isalnum()


def parse(caption: str) -> Parsed:
    """Noun phrases and relations of an English caption."""
    tokens = [_Token(found[0], *found.span()) for found in _TOKEN.finditer(caption[:MAX_CHARACTERS])]
    placed: list[tuple[int, int, Phrase]] = []
    for first, last in _runs(tokens):
        placed += _phrases(tokens, first, last)
    relations = []
    for (_, behind, subject), (before, _, thing) in pairwise(placed):
        between = tokens[behind:before]
        said = [token.low for token in between if token.low not in words.DETERMINERS]
        if said and all(token.is_word for token in between) and not set(said) & words.NO_RELATION:
            relations.append(Relation(subject, " ".join(said), thing))
    return Parsed(tuple(phrase for _, _, phrase in placed), tuple(relations))


def negatives(caption: str, parsed: Parsed | None = None) -> list[tuple[Kind, str]]:
    """The caption with two things exchanged (`roles`), and with their attributes exchanged (`attributes`): the same
    words, another meaning. None where it has no relation between two things, or the exchange changes nothing; at most
    `MAX_NEGATIVES`. parsed: `parse(caption)`, where it is there."""
    found: list[tuple[Kind, str]] = []
    for relation in (parsed or parse(caption)).relations:
        if len(found) >= MAX_NEGATIVES:
            break
        one, two = relation.subject, relation.object
        if relation.relation in words.EVEN:
            continue  # a dog and a cat, next to each other: exchanged, it is as true
        if one.nouns[-1].lower() != two.nouns[-1].lower():
            found.append(("roles", _exchanged(caption, (one.begin, one.end), (two.begin, two.end))))
        if one.attributes and two.attributes:
            spans = [(each.start, each.start + _width(caption, each)) for each in (one, two)]
            found.append(("attributes", _exchanged(caption, *spans)))
    same = _folded(caption)
    return [(kind, text) for kind, text in dict.fromkeys(found[:MAX_NEGATIVES]) if _folded(text) != same]


def singular(noun: str) -> str:
    """The singular of an English noun in lower case, by its ending."""
    word = noun.lower().replace("’", "'").removesuffix("'s").removesuffix("'")
    if word in words.PLURALS:
        return words.PLURALS[word]
    if word in words.ONLY_PLURAL or len(word) < 4 or word.endswith(("ss", "us", "is")) or not word.endswith("s"):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes", "oes")):
        return word[:-2]
    return word[:-1]


def _runs(tokens: Sequence[_Token]) -> Iterator[tuple[int, int]]:
    """Ranges of tokens of open classes, between closed-class words and punctuation."""
    first = None
    for place, token in enumerate(tokens):
        if token.is_word and token.low not in words.CLOSED:
            first = place if first is None else first
        elif first is not None:
            yield first, place
            first = None
    if first is not None:
        yield first, len(tokens)


def _phrases(tokens: Sequence[_Token], first: int, last: int) -> list[tuple[int, int, Phrase]]:
    """(first token with the determiner, token behind it, phrase) of each phrase in a run: it is cut at its verbs."""
    before = tokens[first - 1].low if first else ""
    if before in words.MODALS or ((before in words.AUXILIARIES or before == "to") and _says(tokens[first])):
        first += 1  # can move, is sleeping, to stop: what comes behind may be its object
    found: list[tuple[int, int, Phrase]] = []
    begin = first
    for place in range(first, last + 1):
        if place < last and not _is_verb(tokens, begin, place, last):
            continue
        made = _phrase(tokens, begin, place)
        if made is not None:
            found.append(made)
        begin = place + 1
    return found


def _says(token: _Token) -> bool:
    """Whether a word behind `is` or `to` says something of the thing before, and is none itself."""
    word = token.low
    return word in words.VERBS or (word.endswith(("ing", "ed")) and word not in words.NOUNS)


def _is_verb(tokens: Sequence[_Token], begin: int, place: int, last: int) -> bool:
    """Whether the word is one that says what the thing before it in its run does."""
    if place == begin:
        return False
    word, before = tokens[place].low, tokens[place - 1].low
    if before in words.ADJECTIVES or word in words.ADJECTIVES:
        return False  # a large sleeping cat
    if word in words.VERBS:
        return True
    if word.endswith("ing") and word not in words.NOUNS_IN_ING:
        return True  # a dog wearing sunglasses
    if word.endswith("ed") and len(word) > 4 and word not in words.NOUNS_IN_ED:
        return place + 1 == last  # a car parked (on), but a silver plated spoon
    behind = tokens[last].low if last < len(tokens) else ""
    is_before_object = place + 1 == last and behind in words.DETERMINERS and word.endswith("s")
    return is_before_object and not word.endswith(("ss", "'s"))  # a hoverfly resembles (a)


def _phrase(tokens: Sequence[_Token], begin: int, end: int) -> tuple[int, int, Phrase] | None:
    """The phrase of the tokens begin..end-1, without adverbs before and adjectives and labels behind it."""
    while end > begin and (_is_label(tokens[end - 1]) or tokens[end - 1].low in words.ADJECTIVES):
        end -= 1
    while begin < end and tokens[begin].low in words.ADVERBS:
        begin += 1
    if begin == end or (end < len(tokens) and tokens[end].low == "of" and tokens[end - 1].low in words.MEASURES):
        return None
    start = begin
    while start < end - 1 and _is_attribute(tokens[start]):
        start += 1
    with_determiner = begin
    while with_determiner and tokens[with_determiner - 1].low in words.DETERMINERS:
        with_determiner -= 1
    texts = [token.text for token in tokens[begin:end]]
    phrase = Phrase(
        tokens[with_determiner].start,
        tokens[begin].start,
        tokens[end - 1].end,
        tuple(texts[: start - begin]),
        tuple(texts[start - begin :]),
    )
    return with_determiner, end, phrase


def _is_label(token: _Token) -> bool:
    return len(token.text) == 1 or token.text[0].isdigit()


def _is_attribute(token: _Token) -> bool:
    word = token.low
    return (
        word in words.ADJECTIVES
        or word in words.ADVERBS
        or (word.endswith(words.ADJECTIVE_ENDINGS) and word not in words.NOUNS_IN_ADJECTIVE_ENDINGS)
        or (word.endswith(("ing", "ed")) and word not in words.NOUNS)
        or word.endswith(("'s", "s'"))
        or word[0].isdigit()
    )


def _width(caption: str, phrase: Phrase) -> int:
    """Characters of a phrase's attributes, as far as the last of them."""
    inside = caption[phrase.start : phrase.end]
    place = 0
    for attribute in phrase.attributes:
        place = inside.index(attribute, place) + len(attribute)
    return place


def _exchanged(caption: str, one: tuple[int, int], two: tuple[int, int]) -> str:
    """The caption with two of its ranges exchanged; a capital letter at its beginning stays there."""
    a, b = caption[slice(*one)], caption[slice(*two)]
    if caption[: one[0]].strip() == "" and a[:1].isupper() and not a[1:2].isupper():
        b, a = b[:1].upper() + b[1:], a[:1].lower() + a[1:]
    return caption[: one[0]] + b + caption[one[1] : two[0]] + a + caption[two[1] :]


def _folded(caption: str) -> list[str]:
    return [found[0].lower() for found in _TOKEN.finditer(caption)]
