"""Boilerplate: captions that say nothing about their picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.signal import TextSignal

# Every pattern must match the whole text, case folded and with quotes and punctuation cut off its ends: "logo" is
# boilerplate, "a logo of a bakery" is a caption. Words that are often the true caption of a drawing or a symbol
# ("arrow", "map", "home", "button", "heart") are left out on purpose.
_SIZE_WORDS = r"(?:large|small|medium|thumb|big|full|orig(?:inal)?|scaled|copy|\d+x\d+|\d+)"
_PICTURE = r"(?:image|img|picture|pic|photo|photograph|foto|bild|imagen|immagine|afbeelding|screenshot|thumbnail|thumb)"
_SOCIAL = (
    r"(?:facebook|twitter|pinterest|linked ?in|instagram|whats ?app|telegram|reddit|tumblr|you ?tube|tik ?tok"
    r"|google ?(?:plus|\+))"
)
FILE_NAMES: dict[str, tuple[str, ...]] = {
    "a name with the ending of a file": (
        r".{0,200}[\w)\]-]\.(?:jpe?g|jpe|jfif|png|gif|webp|bmp|tiff?|svg|ico|avif|hei[cf]|raw|cr2|nef|psd|eps)",
        r"\S{1,200}\.(?:pdf|mp4|mov|avi|html?|php|aspx?|docx?|zip)",
    ),
    "a path or an address": (
        r"(?:https?://|www\.|file:|data:image)\S*",
        r"(?:[a-z]:)?[/\\](?:[\w%.~-]+[/\\])+[\w%.~-]*",
        r"(?:[a-z0-9-]+\.)+(?:com|net|org|info|co\.uk|de|fr|ru|cn|jp)(?:/\S*)?",
    ),
    "what cameras and phones call pictures": (
        r"(?:img|imag|_?mg|dsc[fn]?|pict?|pxl|mvi|gopr|dji|sam|cimg|kif|hpim|imgp|p|wp|vid"
        r"|fb[ _]img)[ _-]*\d[\d _()-]{2,}",
    ),
    "screen shots": (
        r"screen[ _-]?(?:shot|cap(?:ture)?)s?(?:[ _-]*(?:at|from)?[ _-]*\d[\d ._:-]*(?:at )?[\d ._:-]*(?:[ap]m)?)?",
        r"(?:bildschirmfoto|captura de pantalla|capture d.[ée]cran|schermata)[\w ._:-]*",
    ),
    "a word for any picture and a number": (
        rf"{_PICTURE}(?:[ _#.-]*\d+|[_-]+(?:[a-z]+[_-]+)?\d+)(?:[ _-]*{_SIZE_WORDS})*",
        r"(?:banner|slide|figure|fig|file|scan|page|product|item|gallery|logo|icon|avatar|header|default|unnamed|download)"
        rf"(?:[ _#.-]*\d+|[_-]+(?:[a-z]+[_-]+)?\d+)(?:[ _-]*{_SIZE_WORDS})*",
    ),
    "words, a number and a size": (rf"[a-z0-9]+(?:[_-][a-z0-9]+)*[_-]\d+[_-]{_SIZE_WORDS}",),
    "digests and identifiers": (
        r"[0-9a-f]{16,}",
        r"(?:pexels-)?(?:photo|image|img|shutterstock|istock|depositphotos)[-_]\d{6,}(?:[-_][0-9a-z]+)*",
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        r"(?=[a-z_-]*\d)(?=[0-9_-]*[a-z])[a-z0-9]{18,}",
    ),
}
BOILERPLATE: dict[str, tuple[str, ...]] = {
    "nothing": (
        r"n/?a|null|none|nil|nan|undefined|unknown|tbd|todo|default|alt|(?:alt(?:ernative)? ?)text|title"
        r"|caption|description",
        r"no (?:alt|caption|title|description|image|photo|picture|name)(?: (?:text|available|provided|found|yet))*",
        r"(?:add|enter|insert|your) (?:a |an |the |your )?(?:alt(?:ernative)?(?: text)?|caption|title|text"
        r"|description)(?: here)?",
        r"\{\{?.*\}\}?|\[object object\]|%[a-z_]+%|\$\w+|<[^<>]{1,200}>|lorem ipsum.*",
    ),
    "numbers and sizes": (
        r"[\d\s.,:/#+-]{4,}",
        r"\d+ ?(?:x|×|by|\*) ?\d+(?: ?px| ?pixels)?",
        r"\d+ ?(?:px|kb|mb|dpi)",
        r"\d+ (?:of|/) \d+",
    ),
    "a word for any picture": (
        rf"(?:an? |the |my |this )?{_PICTURE}s?",
        rf"{_PICTURE}s? (?:here|not found|not available|unavailable|coming soon|missing|placeholder|preview"
        rf"|loading|gallery)",
        rf"{_PICTURE} may contain.*",
        r"(?:image )?(?:placeholder|preview)|stock (?:image|photo)s?|(?:featured|main|post|blog|product|site"
        r"|cover|hero) image",
    ),
    "a part of a page": (
        r"(?:site |company |brand |header |footer |main |the |our )?(?:logo|icon|banner|avatar|favicon)s?",
        r"spacer|header|footer|bg|slide|slider|sprite|divider|separator|(?:tracking )?pixel|carousel|gallery"
        r"|(?:main )?menu",
        r"search|next|previous|prev|back|close|share|print|e-?mail|rss|log ?in|log ?out|sign ?(?:in|up|out)"
        r"|subscribe|comments?",
        r"(?:profile|user|author) (?:picture|photo|image|pic|avatar)|back to top|skip to (?:main )?content"
        r"|go back|home ?page",
    ),
    "untitled": (
        r"(?:untitled|unnamed|unbenannt|sans titre|sin t[ií]tulo|senza titolo|sem t[ií]tulo|без названия)"
        rf"(?:[ _-]*(?:document|design|{_PICTURE}|\d+))*",
    ),
    "asking for a click": (
        r"(?:please )?(?:click|tap|press|hover|double[ -]click)"
        rf"(?: here| (?:on )?(?:the |this )?(?:{_PICTURE}|link)s?)?(?: (?:to|for|and) .{{0,60}})?",
        rf"(?:to )?(?:enlarge|zoom(?: in| out)?)(?: (?:the |this )?{_PICTURE}s?)?",
        r"(?:view|see|show|open) (?:full|larger?|original|bigger|more|all|image|gallery|details)(?: .{0,20})?",
        r"(?:read|learn|find out|see|show) more(?: .{0,40})?|continue reading(?: .{0,60})?|more (?:info|details"
        r"|information)",
        r"details|download(?: now| here)?|link|here",
    ),
    "loading": (
        r"(?:(?:image|page|content|now) )?(?:is )?loading(?: (?:image|content|please wait))?|please wait|buffering",
        r"lazy[ -]?load(?:ed|ing)?(?: image)?",
    ),
    "a credit": (
        rf"(?:{_PICTURE}|illustration|graphic)s?(?: ?©| by| via| courtesy(?: of)?).{{1,40}}",
        rf"(?:(?:{_PICTURE}|illustration|graphic)s? )?(?:credit|courtesy|source|copyright)s?(?: ?:| of| by)? .{{1,40}}",
        r"posted (?:by|on|in) .{1,40}|by (?:admin|administrator|editor|staff|webmaster)|admin",
    ),
    "a notice": (
        r"(?:copyright|©|\(c\)|all rights reserved).{0,120}|.{0,120}all rights reserved",
        r"(?:we use|this (?:web)?site uses) cookies.{0,150}|accept (?:all )?cookies|privacy policy"
        r"|terms of (?:use|service)",
        r"(?:error )?(?:403|404|500)(?: -)? (?:not found|forbidden|error)|page not found|access denied|forbidden",
        r"(?:please )?(?:enable|turn on) (?:javascript|cookies).{0,60}|javascript (?:is )?(?:required"
        r"|disabled).{0,40}|captcha.{0,20}",
    ),
    "a social link": (
        r"(?:share|follow|find|like|join|tweet|pin|save|connect|visit)"
        r"(?: (?:this|us|me|it|with us|with))?(?: (?:on|to|at|via))? "
        rf"(?:our )?{_SOCIAL}(?: page)?",
        rf"(?:{_SOCIAL}|social media)(?: (?:icon|logo|page|button|share)s?)?",
        r"(?:share|send)(?: (?:this|it))?(?: (?:by|via|with|to))? (?:e-?mail|friends?|a friend)|share this"
        r"|pin it|tweet",
    ),
    "advertising": (
        r"(?:advertisement|advertising|advert|ads?|sponsored(?: (?:content|post|link)s?)?|promoted"
        r"|(?:ad )?banner(?: ad)?)(?: \d+)?",
        r"(?:buy|shop|order|book|call|subscribe|sign up|register|donate|apply|get it|try it) (?:now|today"
        r"|online|here)(?:[!.:, ].{0,80})?",
        r"add to (?:cart|basket|bag|wish ?list|favou?rites|compare)|free (?:shipping|delivery|download)(?: .{0,60})?",
        r"out of stock|sold out|best ?sellers?|new arrivals?|quick ?view|(?:special|limited time) offer.{0,40}"
        r"|\d+ ?% off.{0,40}",
    ),
}

_TRIM = " \t\"'“”‘’«»`*_~|•·…!?.,;:-–—"
_MAX_CHARACTERS = 250
"""The longest text that any of the patterns is meant for."""


def _one_of(table: dict[str, tuple[str, ...]]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for patterns in table.values() for pattern in patterns))


_IS_FILE_NAME, _IS_BOILERPLATE = _one_of(FILE_NAMES), _one_of(BOILERPLATE)


def is_file_name(text: str) -> bool:
    """Whether the whole text is the name of a file, a path, an address or an identifier."""
    return len(text) <= _MAX_CHARACTERS and _IS_FILE_NAME.fullmatch(text.casefold().strip(_TRIM)) is not None


def is_boilerplate(text: str) -> bool:
    """Whether the whole text is boilerplate: a file name, a part of a page, a notice, or punctuation alone."""
    trimmed = text.casefold().strip(_TRIM)
    if not trimmed:
        return True
    return len(text) <= _MAX_CHARACTERS and (is_file_name(text) or _IS_BOILERPLATE.fullmatch(trimmed) is not None)


class Boilerplate(TextSignal):
    """Whether the whole caption is a file name, or any text that stands at every other picture of the web too.

    Columns: `is_file_name`; `is_boilerplate` (which holds for file names too). Boolean; null without a text. The
    patterns stand in the tables `FILE_NAMES` and `BOILERPLATE` above and match whole texts only, in English and a few
    other languages: a caption that merely contains such words is left alone.
    Range: true or false. Unit: none. Model: none. Source: this project, after the text rules of CC3M, ALIGN and LAION.
    """

    version: ClassVar[int] = 1

    def writes(self) -> pa.Schema:
        return pa.schema({"is_file_name": pa.bool_(), "is_boilerplate": pa.bool_()})

    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        return {
            "is_file_name": [None if text is None else is_file_name(text) for text in texts],
            "is_boilerplate": [None if text is None else is_boilerplate(text) for text in texts],
        }
