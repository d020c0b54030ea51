"""Personal data in texts: where e-mail addresses, numbers of accounts, cards, people, phones and machines stand.

A number counts only where its check digits, its length and its form are right, so that sizes, dates and article numbers
are left alone; a phone number has no check digit and counts where it is written as one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

from phonenumbers import Leniency, PhoneNumberMatcher
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.tr import tckimlik
from stdnum.us import ssn


class Found(NamedTuple):
    """One piece of personal data: code points `start` to `end` of the text, and its kind."""

    start: int
    end: int
    kind: str


# No top-level domain is called like the files that designers name `logo@2x.png`.
_E_MAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}"
    r"(?!(?i:png|jpe?g|gif|webp|svg|bmp|tiff?|avif|hei[cf]|ico|pdf|html?|css|js)\b)[^\W\d_]{2,24}(?![\w@])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![a-z0-9])")
_CARD = re.compile(r"(?<![\d.,+-])\d(?:[ -]?\d){12,18}(?!\w|[.,]\d)")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{6,39}(?![\w:])")
_VERSION_BEFORE = re.compile(r"(?i)(?:\b(?:v|ver|version|release|firmware|chapter|section|table|fig(?:ure)?)|§)[. ]*$")
_CARD_LENGTHS = (
    (re.compile(r"4"), (13, 16, 19)),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),  # Mastercard
    (re.compile(r"3[47]"), (15,)),  # American Express
    (re.compile(r"30[0-5]|36|38|39"), (14,)),  # Diners
    (re.compile(r"6011|64[4-9]|65|62|35(?:2[89]|[3-8])"), (16, 17, 18, 19)),  # Discover, UnionPay, JCB
)
# Country -> how the number is written, and the check of its digits. Numbers of bare digits with weak checks (Dutch,
# Swiss, ... nine digits of which one in eleven is right) are left out.
_NATIONAL: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("US", re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), ssn.is_valid),
    ("ES", re.compile(r"(?<!\w)\d{8}-?[A-Z](?!\w)"), dni.is_valid),
    ("ES", re.compile(r"(?<!\w)[XYZ]-?\d{7}-?[A-Z](?!\w)"), nie.is_valid),
    ("BR", re.compile(r"(?<![\w.])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\w)"), cpf.is_valid),
    ("CN", re.compile(r"(?<!\w)\d{17}[\dXx](?!\w)"), ric.is_valid),
    ("FR", re.compile(r"(?<!\w)[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}(?!\w)"), nir.is_valid),
    ("IT", re.compile(r"(?<!\w)[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z](?!\w)"), codicefiscale.is_valid),
    ("FI", re.compile(r"(?<!\w)\d{6}[-+A]\d{3}[\dA-Z](?!\w)"), hetu.is_valid),
    ("SE", re.compile(r"(?<!\w)\d{6}(?:\d{2})?[-+]\d{4}(?!\w)"), personnummer.is_valid),
    ("KR", re.compile(r"(?<!\w)\d{6}-\d{7}(?!\w)"), rrn.is_valid),
    ("IN", re.compile(r"(?<![\w-])[2-9]\d{3} \d{4} \d{4}(?! ?\d)"), aadhaar.is_valid),
    ("MX", re.compile(r"(?<!\w)[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d(?!\w)"), curp.is_valid),
    ("PL", re.compile(r"(?<![\w+])\d{11}(?!\w)"), pesel.is_valid),
    ("TR", re.compile(r"(?<![\w+])[1-9]\d{10}(?!\w)"), tckimlik.is_valid),
)
_UK_NUMBER = re.compile(r"(?<!\w)([A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]) ?\d{2} ?\d{2} ?\d{2} ?[A-D](?!\w)")
_UK_PREFIXES_NOT_GIVEN = {"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"}

_MANY_DIGITS = re.compile(r"(?:\d[^\w]{0,3}){6}\d")
_APART = r"[ \u00a0().\-/–]{0,2}"
_DIGITS = rf"\(?\d(?:{_APART}\d){{6,14}}"
_YEAR, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|[12]\d|3[01])"
_DATE = rf"(?:{_YEAR}(?:[-./]{_DAY}[-./]{_DAY})?|{_DAY}[-./]{_DAY}[-./]{_YEAR})(?:[ T]\d\d?:\d\d(?::\d\d)?)?"
# "call 2019 2020 2021", "phone 2019-05-12": of all pairs of four digits one in 2,500 is two years
_DATES_ALONE = rf"\(?{_DATE}(?:{_APART}{_DATE}){{0,30}}(?!\w|{_APART}\d)"
# a number in international form; one behind a word that announces it, if it is more than dates; American form (no area
# code begins with 0 or 1); a Chinese mobile number
_PHONE = re.compile(
    rf"(?<![\w+])\+{_DIGITS}(?!\w)"
    rf"|(?i:\b(?:tel|phone|telephone|telefon|telefono|teléfono|téléphone|fax|mobile?|cell|handy|whats ?app|call"
    rf"|тел|телефон)\b|电话|電話|手机|전화)[.:：)\s]{{0,3}}(?!{_DATES_ALONE})(?P<announced>\+?{_DIGITS})(?!\w)"
    r"|(?<![\w(.-])(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[-.])\d{3}[-.]\d{4}(?![\w-])"
    r"|(?<![\w+.-])1[3-9]\d(?:\d{8}|[ -]\d{4}[ -]\d{4})(?![\w-])"
)


def find_personal_data(text: str, regions: tuple[str, ...] = ()) -> list[Found]:
    """All that is found in the text, in order and without overlaps; where two overlap, the more certain kind stays.

    `regions` (ISO 3166) are those whose national phone numbers are looked for beyond the forms known everywhere.
    """
    searches: list[Iterator[Found]] = []
    if "@" in text:
        searches.append(Found(*each.span(), "email") for each in _E_MAIL.finditer(text))
    if any(char.isdigit() for char in text) or "::" in text:
        searches += [_ibans(text), _national_ids(text), _cards(text), _ip_addresses(text)]
        if _MANY_DIGITS.search(text):
            searches.append(_phones(text, regions))
    taken, covered = [], bytearray(len(text))
    for each in chain.from_iterable(searches):
        if not any(covered[each.start : each.end]):
            covered[each.start : each.end] = b"x" * (each.end - each.start)
            taken.append(each)
    return sorted(taken)


def redacted(text: str, found: list[Found]) -> str:
    """The text with each piece replaced by its kind, such as `<EMAIL>` or `<NATIONAL_ID>`."""
    for each in reversed(found):
        text = f"{text[: each.start]}<{each.kind.partition(':')[0].upper()}>{text[each.end :]}"
    return text


def _ibans(text: str) -> Iterator[Found]:
    for each in _IBAN.finditer(text):
        # words in capitals behind the number look like more of it
        for end in range(each.end(), each.start() + 14, -1):
            if (end == len(text) or not text[end].isalnum()) and iban.is_valid(text[each.start() : end]):
                yield Found(each.start(), end, "iban")
                break


def _cards(text: str) -> Iterator[Found]:
    for each in _CARD.finditer(text):
        digits = re.sub(r"\D", "", each.group())
        issued = any(form.match(digits) and len(digits) in lengths for form, lengths in _CARD_LENGTHS)
        if issued and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield Found(*each.span(), "card")


def _national_ids(text: str) -> Iterator[Found]:
    for country, form, is_valid in _NATIONAL:
        for each in form.finditer(text):
            if is_valid(each.group()):
                yield Found(*each.span(), f"national_id:{country}")
    for each in _UK_NUMBER.finditer(text):
        if each.group(1) not in _UK_PREFIXES_NOT_GIVEN:
            yield Found(*each.span(), "national_id:GB")


def _ip_addresses(text: str) -> Iterator[Found]:
    """Addresses of the public network: others tell nothing about anyone, and version numbers look like some."""
    for form in (_IPV4, _IPV6):
        for each in form.finditer(text):
            try:
                address = ipaddress.ip_address(each.group())
            except ValueError:
                continue
            if address.is_global and not _VERSION_BEFORE.search(text[max(0, each.start() - 20) : each.start()]):
                yield Found(*each.span(), "ip_address")


def _phones(text: str, regions: tuple[str, ...]) -> Iterator[Found]:
    for each in _PHONE.finditer(text):
        yield Found(*each.span("announced" if each["announced"] else 0), "phone")
    for region in regions:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING):
            if re.search(r"\D", match.raw_string):  # bare digits may be anything
                yield Found(match.start, match.end, "phone")
