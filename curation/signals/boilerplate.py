"""Boilerplate: captions that say nothing about their picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.signal import TextSignal

# Each pattern must match the whole text (case folded, punctuation at the ends cut off): "logo" is boilerplate, "a logo
# of a bakery" is a caption. Found in crawls and in the exclusion lists of published rule sets; one line a kind.
_EXTENSIONS = r"\.(?:jpe?g|jpe|jfif|png|gif|webp|bmp|tiff?|svg|ico|avif|heic|heif|raw|cr2|nef|pdf|psd|eps|mp4|mov|html?|php)"
FILE_NAMES: dict[str, str] = {
    "any name with the ending of a picture": rf"[^\s/\\]{{1,200}}{_EXTENSIONS}|.{{0,200}}[\w)\]-]{_EXTENSIONS}",
    "a path or an address": r"(?:https?://|www\.|file:|data:image)\S*|(?:/?[\w%.~-]+/){2,}[\w%.~-]*",
    "what cameras and phones call pictures": r"(?:img|imag|dsc[fn]?|dscn|pict?|pxl|mvi|gopr|dji|sam|cimg|kif|hpim|p|wp|fb[ _]img|mg)"
    r"[ _-]*\d[\d _()-]{2,}",
    "screen shots": r"screen[ _-]?shots?(?:[ _-]*(?:at|from)?[ _-]*\d[\d ._:-]*(?:[ap]m)?)?|bildschirmfoto[\d ._:-]*|capture[ _-]?\d+",
    "numbered names": r"(?:image|img|photo|picture|pic|bild|foto|imagen|thumb(?:nail)?|banner|slide|figure|fig|file|untitled|scan|page"
    r"|product|item|gallery|logo|icon|avatar|header|default|unnamed|download)(?:[ _#.-]*\d+|[_-]+(?:[a-z]+[_-]+)?\d+)"
    r"(?:[ _-]*(?:large|small|medium|thumb|big|full|orig(?:inal)?|scaled|copy|\d+x\d+|\d+))*",
    "names made of words, numbers and a size": r"[a-z0-9]+(?:[_-][a-z0-9]+)*[_-]\d+[_-](?:large|small|medium|thumb|big|full|orig|scaled|\d+x\d+)",
    "digests and identifiers": r"[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-z0-9_-]*\d)(?=[a-z0-9_-]*[a-z])[a-z0-9]{18,}",
}  # fmt: skip
BOILERPLATE: dict[str, str] = {
    "nothing": r"n/?a|null|none|nil|nan|undefined|empty|blank|alt|alt(?:ernative)? ?text|title|caption|description|tbd|todo|test|true|false"
    r"|no (?:alt|caption|title|description|image|photo|picture|name)(?: (?:text|available|provided|found))?|missing|unknown|default"
    r"|\{\{?.*\}\}?|\[object object\]|%[a-z_]+%|<[^<>]{1,200}>|lorem ipsum.*",
    "numbers and sizes": r"[\d\s.,:/#+-]+|\d+ ?(?:x|×|by|\*) ?\d+(?: ?px| ?pixels)?|\d+ ?(?:px|kb|mb|dpi)|page \d+(?: of \d+)?",
    "words for a picture": r"(?:an? |the |my |this )?(?:image|img|picture|pic|photo|photograph|foto|bild|imagen|immagine|afbeelding|figure|"
    r"screenshot|thumbnail|thumb|preview|placeholder|graphic|artwork|illustration image|stock photo|stock image)s?"
    r"(?: (?:here|not found|not available|unavailable|coming soon|missing|placeholder|preview|loading|gallery|may contain.*))?",
    "parts of a page": r"(?:site |company |brand |header |footer |main )?(?:logo|icon|banner|avatar|spacer|header|footer|background|bg|slide|"
    r"slider|sprite|bullet|divider|separator|favicon|arrow|pixel|tracking pixel|hero|cover|carousel|gallery|map|menu|button|"
    r"search|home|next|previous|prev|back|close|play|pause|top|share|print|e-?mail|rss|login|log ?in|sign ?(?:in|up)|"
    r"profile (?:picture|photo|image|pic)|user (?:avatar|image)|site image|featured image|post image|product image|main image|blog image)",
    "untitled": r"untitled(?: (?:document|design|image|photo|picture|\d+|-\d+))*(?:[ _-]*\d+)?|unnamed|unbenannt|sans titre|sin t[ií]tulo|senza titolo",
    "asking for a click": r"(?:please )?(?:click|tap|press|hover|touch|double[ -]click)(?: here| (?:on )?(?:the |this )?(?:image|picture|photo|thumbnail|link)s?)?"
    r"(?: (?:to|for|and) .{0,60})?|(?:click )?to (?:enlarge|zoom|expand|view|see|open|download)(?: .{0,30})?|enlarge(?: image| this image)?|zoom(?: in| out)?"
    r"|(?:view|see|show|open) (?:full|large|larger|original|bigger|more|all|image|gallery|full[ -]?size|details)(?: .{0,20})?|read more(?: .{0,40})?"
    r"|learn more|(?:continue reading|more (?:info|details|information)|details|download(?: now| here)?|link|here|skip to (?:main )?content)",
    "loading": r"(?:image |page |content |now )?(?:is )?loading(?: (?:image|content|please wait))?|please wait|buffering|lazy(?:[ -]?load(?:ed|ing)?)?(?: image)?",
    "credits": r"(?:photo|image|picture|pic|photograph|illustration|graphic|source|credit|courtesy)s?(?: (?:credit|courtesy|source|copyright)s?)?"
    r"(?: ?[:©]| by| of| from| via)+ .{1,40}|via .{1,30}|posted (?:by|on|in) .{1,40}|by (?:admin|administrator|editor|staff|webmaster)",
    "copyright": r"(?:copyright|©|\(c\)|all rights reserved).{0,120}|.{0,80}all rights reserved|.{0,60}(?:royalty[ -]free (?:stock )?(?:image|photo|picture)s?)",
    "social links": r"(?:share|follow|find|like|join|tweet|pin|save|connect|visit)(?: (?:this|us|me|it|with us))?(?: (?:on|to|at|via|with))?"
    r" (?:facebook|twitter|x|pinterest|linked ?in|instagram|whats ?app|telegram|reddit|tumblr|you ?tube|tik ?tok|e-?mail|friends|social media)"
    r"|facebook|twitter|pinterest|linked ?in|instagram|whats ?app|tumblr|you ?tube|(?:facebook|twitter|instagram|youtube|social media) (?:icon|logo|page|button)s?",
    "advertising": r"(?:advertisement|advertising|advert|ads?|sponsored(?: (?:content|post|link)s?)?|promoted|ad banner|banner ad)(?: \d+)?"
    r"|(?:buy|shop|order|book|call|subscribe|sign up|register|donate|apply|get it|get yours|try it) (?:now|today|online|here)(?:[!.: ].{0,80})?"
    r"|add to (?:cart|basket|bag|wish ?list|favou?rites|compare)|free (?:shipping|delivery|download)(?: .{0,60})?|on sale|sale|special offer.{0,40}"
    r"|out of stock|sold out|best ?seller|new arrival|quick ?view|limited time.{0,40}|\d+ ?% off.{0,40}",
    "consent and errors": r"(?:we use|this (?:web)?site uses) cookies.{0,120}|accept (?:all )?cookies|(?:error )?(?:403|404)(?: .{0,20})?(?:not found|forbidden|error)?"
    r"|page not found|access denied|forbidden|please (?:enable|turn on) (?:javascript|cookies).{0,60}|javascript required|captcha(?: code| image)?",
}  # fmt: skip

_TRIM = " \t\"'“”‘’«»`*_~|•·…!?.,;:-–—"
_IS_FILE_NAME = re.compile("|".join(f"(?:{pattern})" for pattern in FILE_NAMES.values()))
_IS_BOILERPLATE = re.compile("|".join(f"(?:{pattern})" for pattern in BOILERPLATE.values()))
# The longest text that any of the patterns is meant for, in characters. Longer ones say something.
_MAX_CHARACTERS = 250


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
