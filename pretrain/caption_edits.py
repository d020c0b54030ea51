"""Captions edited in exactly one span: another object, attribute or relation, an attribute put in; or words in another
order.

The first three are VL-CheckList's (arXiv:2207.00221): the edited caption is wrong, a model must prefer the true one. An
attribute that is put in (XMAI, arXiv:2306.11065) leaves the caption about the same thing. What is drawn is drawn by a
keyed hash of the caption, so it is the same for every model. The word lists are English.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pretrain.keyed import key

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey"),
    "size": ("big", "large", "small", "little", "tiny", "huge", "tall", "short", "long"),
    "material": ("wooden", "metal", "plastic", "glass", "stone", "leather", "paper", "golden", "silver"),
    "state": ("old", "new", "young", "wet", "dry", "open", "closed", "empty", "full", "broken", "clean", "dirty"),
    "action": ("standing", "sitting", "running", "walking", "jumping", "sleeping", "eating", "flying", "swimming"),
}
"""VL-CheckList's kinds of attributes, with common words of each."""
RELATIONS = ("in", "on", "under", "above", "below", "behind", "beside", "near", "inside", "outside", "between", "over")
"""Spatial relations, of which one stands for another."""
_GROUPS = (*ATTRIBUTES.values(), RELATIONS)
_NAME = re.compile(r"^(?:an?|the|some)\s+(?P<name>\w[\w'-]*(?:\s+\w[\w'-]*)?)\s*[.!]?$", re.IGNORECASE)
MIN_WORDS = 3
"""Words of a caption whose order can be changed; two are often a name."""


@dataclass(frozen=True)
class Edit:
    """kind: object, attribute, relation, attribute_inserted or word_order. text: the edited caption."""

    kind: str
    original: str
    text: str


def names_in(captions: Collection[str]) -> list[str]:
    """What short captions name (`A red apple.`: apple), sorted. Words of the lists above are no names."""
    known = {word for group in _GROUPS for word in group}
    found = set()
    for caption in captions:
        match = _NAME.match(caption.strip())
        words = [word for word in match["name"].lower().split() if word not in known] if match else []
        if words:
            found.add(" ".join(words))
    return sorted(found)


def replace_object(caption: str, objects: Sequence[str], own: Collection[str] = ()) -> Edit | None:
    """The longest object of `objects` in the caption, replaced by another one that is not in `own` nor in the caption;
    None where there is none."""
    span = _first(caption, objects)
    if span is None:
        return None
    mine = {name.lower() for name in own}
    there = span.group(0).lower()
    others = [
        other
        for other in objects
        # `bald eagle` for `eagle` would still be true
        if other.lower() not in mine and not _share_words(other, there) and not _pattern((other,)).search(caption)
    ]
    return _replaced("object", caption, span, others)


def replace_attribute(caption: str) -> Edit | None:
    """The first attribute of the caption, replaced by another one of its kind."""
    return _replace_within("attribute", caption, list(ATTRIBUTES.values()))


def replace_relation(caption: str) -> Edit | None:
    """The first relation of the caption, replaced by another one."""
    return _replace_within("relation", caption, [RELATIONS])


def insert_attribute(caption: str, objects: Sequence[str], true: Sequence[str] = ()) -> Edit | None:
    """An attribute before the object: one of `true` (what else is said of the picture), else a drawn colour or size.

    None where the caption names no object, or has an attribute of that kind already.
    """
    span = _first(caption, objects)
    if span is None:
        return None
    choices = [word for word in true if not _pattern((word,)).search(caption)]
    if not choices:
        kinds = [words for kind, words in ATTRIBUTES.items() if kind in ("colour", "size")]
        choices = [word for words in kinds if not _pattern(words).search(caption) for word in words]
    if not choices:
        return None
    word = choices[int(key("insert", caption)) % len(choices)]
    return Edit("attribute_inserted", caption, f"{caption[: span.start()]}{word} {caption[span.start() :]}")


def attributes_in(texts: Collection[str]) -> list[str]:
    """The attributes that texts hold, sorted."""
    pattern = _pattern(tuple(word for words in ATTRIBUTES.values() for word in words))
    return sorted({found.lower() for text in texts for found in pattern.findall(text)})


def change_word_order(caption: str) -> Edit | None:
    """The caption's words (as spaces part them) in another order; None where it has fewer than three, or all alike."""
    words = caption.split()
    if len(words) < MIN_WORDS or len(set(words)) == 1:
        return None
    for attempt in range(20):
        order = sorted(range(len(words)), key=lambda place: key("order", caption, attempt, place))
        made = " ".join(words[place] for place in order)
        if made != " ".join(words):
            return Edit("word_order", caption, made)
    return None  # twenty orders of two different words that are all the first one: less than one in a million


def _replace_within(kind: str, caption: str, groups: Sequence[tuple[str, ...]]) -> Edit | None:
    spans = [(span, group) for group in groups if (span := _pattern(group).search(caption)) is not None]
    if not spans:
        return None
    span, group = min(spans, key=lambda each: each[0].start())
    return _replaced(kind, caption, span, [word for word in group if not _pattern((word,)).search(caption)])


def _replaced(kind: str, caption: str, span: re.Match[str], others: Sequence[str]) -> Edit | None:
    if not others:
        return None
    other = others[int(key(kind, caption)) % len(others)]
    if span.group(0)[0].isupper():
        other = other[0].upper() + other[1:]
    return Edit(kind, caption, f"{caption[: span.start()]}{other}{caption[span.end() :]}")


def _share_words(a: str, b: str) -> bool:
    return bool(set(a.lower().split()) & set(b.lower().split()))


def _first(caption: str, objects: Sequence[str]) -> re.Match[str] | None:
    return _pattern(tuple(objects)).search(caption) if objects else None


@lru_cache(maxsize=4096)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Any of these as whole words, the longest first, whatever their case."""
    longest = sorted(words, key=lambda word: (-len(word), word))
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest)) + r")\b", re.IGNORECASE)
