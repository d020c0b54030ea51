"""Personal data: what a caption gives away about people, counted, and the caption without it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.personal_data import find_personal_data, redacted
from curation.signal import TextSignal

COUNTS = {
    "num_emails": "email",
    "num_phones": "phone",
    "num_ip_addresses": "ip_address",
    "num_ibans": "iban",
    "num_cards": "card",
    "num_national_ids": "national_id",
}


class PersonalData(TextSignal):
    """E-mail addresses, phone numbers, public IP addresses, and numbers of accounts, cards and people in the text.

    Columns: `num_emails`, `num_phones`, `num_ip_addresses`, `num_ibans`, `num_cards`, `num_national_ids`, int32, 0 or
    more; `pii_kinds`, the sorted distinct kinds (such as `email`, `national_id:ES`), empty where there are none;
    `text_redacted`, the text with each piece replaced by its kind, such as `<EMAIL>`. Null without a text.
    Accounts (IBAN, ISO 13616), cards (Luhn, ISO/IEC 7812) and national numbers of 14 countries (Brazil, China, Finland,
    France, India, Italy, Korea, Mexico, Poland, Spain, Sweden, Turkey, the United Kingdom, the United States) count
    where form and check digits are right. Phone numbers count in international form, behind a word such as "tel" (years
    and dates alone do not), in American and in Chinese mobile form, and in the national forms of `regions`. Names and
    postal addresses are not looked for. Unit: pieces. Model: none; the versions of the number tables are in the key.
    Source: the packages python-stdnum and phonenumbers; public IP addresses and e-mail after FineWeb, arXiv 2406.17557.
    """

    version: ClassVar[int] = 3

    regions: tuple[str, ...] = ("US", "GB")
    """Countries (ISO 3166) whose national phone numbers, written in groups, count too; each costs 0.2 ms a text that
    holds seven digits."""

    def key_extras(self) -> dict[str, object]:
        return {name: version(name) for name in ("python-stdnum", "phonenumberslite")}

    def writes(self) -> pa.Schema:
        kinds = {name: pa.int32() for name in COUNTS}
        return pa.schema({**kinds, "pii_kinds": pa.list_(pa.string()), "text_redacted": pa.string()})

    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        found = [None if text is None else find_personal_data(text, self.regions) for text in texts]
        columns: dict[str, Sequence[object] | np.ndarray | pa.Array] = {
            name: [None if f is None else sum(each.kind.partition(":")[0] == kind for each in f) for f in found]
            for name, kind in COUNTS.items()
        }
        columns["pii_kinds"] = [None if f is None else sorted({each.kind for each in f}) for f in found]
        columns["text_redacted"] = [
            None if text is None or f is None else redacted(text, f) for text, f in zip(texts, found, strict=True)
        ]
        return columns
