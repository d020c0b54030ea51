"""Personal data: what is found, what is not, and that nothing of it is left behind."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.personal_data import find_personal_data, redacted
from curation.signals.personal_data import PersonalData


def kinds(text: str, regions: tuple[str, ...] = ()) -> dict[str, str]:
    return {text[each.start : each.end]: each.kind for each in find_personal_data(text, regions)}


@pytest.mark.parametrize(
    ("text", "piece", "kind"),
    [
        ("mail joe.doe+x@example.co.uk.", "joe.doe+x@example.co.uk", "email"),
        ("用户@例子.中国", "用户@例子.中国", "email"),
        ("2x@png.example", "2x@png.example", "email"),
        ("тел. 8 (495) 123-45-67", "8 (495) 123-45-67", "phone"),
        ("+55 (11) 91234-5678", "+55 (11) 91234-5678", "phone"),
        ("+82 10-1234-5678", "+82 10-1234-5678", "phone"),
        ("电话：010-12345678", "010-12345678", "phone"),
        ("FR76 3000 6000 0112 3456 7890 189", "FR76 3000 6000 0112 3456 7890 189", "iban"),
        ("NL91ABNA0417164300", "NL91ABNA0417164300", "iban"),
        ("3530 1113 3330 0000", "3530 1113 3330 0000", "card"),
        ("2a00:1450:4001:81b::200e", "2a00:1450:4001:81b::200e", "ip_address"),
        ("почта иван@пример.рф ", "иван@пример.рф", "email"),
        ("at +49 30 1234567, or so", "+49 30 1234567", "phone"),
        ("+1-555-123-4567", "+1-555-123-4567", "phone"),
        ("+44 (0)20 7946 0958", "+44 (0)20 7946 0958", "phone"),
        ("Tel.: 030/1234567", "030/1234567", "phone"),
        ("CALL 5551234567 now", "5551234567", "phone"),
        ("call 555 2019 2020", "555 2019 2020", "phone"),
        ("tel. 2019 2020 2021 1", "2019 2020 2021 1", "phone"),
        ("phone 1899-2020", "1899-2020", "phone"),
        ("手机13812345678", "13812345678", "phone"),
        ("号码 138 1234 5678", "138 1234 5678", "phone"),
        ("(555) 123-4567", "(555) 123-4567", "phone"),
        ("555.123.4567", "555.123.4567", "phone"),
        ("DE89 3704 0044 0532 0130 00 OK", "DE89 3704 0044 0532 0130 00", "iban"),
        ("IBAN GB29NWBK60161331926819.", "GB29NWBK60161331926819", "iban"),
        ("4111 1111 1111 1111", "4111 1111 1111 1111", "card"),
        ("5500-0000-0000-0004", "5500-0000-0000-0004", "card"),
        ("378282246310005", "378282246310005", "card"),
        ("from 8.8.8.8.", "8.8.8.8", "ip_address"),
        ("2001:4860:4860::8888", "2001:4860:4860::8888", "ip_address"),
        ("SSN 123-45-6789", "123-45-6789", "national_id:US"),
        ("12345678Z", "12345678Z", "national_id:ES"),
        ("X-1234567-L", "X-1234567-L", "national_id:ES"),
        ("529.982.247-25", "529.982.247-25", "national_id:BR"),
        ("11010519491231002X", "11010519491231002X", "national_id:CN"),
        ("2 55 08 14 168 025 38", "2 55 08 14 168 025 38", "national_id:FR"),
        ("RSSMRA85T10A562S", "RSSMRA85T10A562S", "national_id:IT"),
        ("131052-308T", "131052-308T", "national_id:FI"),
        ("AB 12 34 56 C", "AB 12 34 56 C", "national_id:GB"),
        ("44051401359", "44051401359", "national_id:PL"),
        ("10000000146", "10000000146", "national_id:TR"),
        ("880320-0016", "880320-0016", "national_id:SE"),
        ("971013-9019902", "971013-9019902", "national_id:KR"),
        ("2341 2341 2346", "2341 2341 2346", "national_id:IN"),
    ],
)
def test_found(text: str, piece: str, kind: str) -> None:
    assert kinds(text, ("US", "GB")) == {piece: kind}


@pytest.mark.parametrize(
    "text",
    [
        "A dog in 2021, 1920 x 1080, f/2.8 1/250 s",
        "2021-05-06 12:30:45, 06.05.2021, 5/6/2021-5/7/2021",
        "IMG_20210506_123045.jpg DSC01234567",
        "ISBN 978-3-16-148410-0, EAN 4006381333931",
        "3.14159265358979323846 and 12345678901234567890",
        "1,234,567,890 people; 1 000 000 000",
        "192.168.0.1 10.0.0.1 127.0.0.1 999.1.1.1",
        "version 8.8.8.8, 1.2.3.4.5",
        "@handle and user@host and a@b",
        "4111 1111 1111 1112",  # card: the check digit is wrong
        "DE88 3704 0044 0532 0130 00",  # IBAN
        "12345678A",  # DNI
        "529.982.247-26",  # CPF
        "000-12-3456",  # SSN
        "11010519491231002Y",
        "GB 12 34 56 C",  # a prefix that is not given out
        "12:34:56:78 ::",
        "part no 1234567890",
        "logo@2x.png icon@3x.JPEG a@b.html",
        "1914-1918, 1939–1945, 12.05.1999 - 13.06.2001, 22/11/2024",
        "2024-11-22T16:36:09Z 20241122163609 2024-11-22 16:36:09.123456",
        "ISBN 0-306-40615-2, ISSN 2049-3630, DOI 10.1038/nature12373, arXiv 2309.16671",
        "24 x 36 in., 600x800x1200 mm, 1024 x 768 px 300 dpi, 45x45x45x45",
        "48.8584, 2.2945; 48°51'30.1\"N 2°17'40.2\"E; -33.8688197, 151.2092955",
        "€ 1.234.567,89 / $1,234,567.89; 12 345 678 inhabitants",
        "EAN 4006381333931, UPC 036000291452, order 4012888888881881x",
        "0000 0000 0000 0000; 1111-1111-1111-1111; 123-456-7890; 100-200-3000",
        "call 2019 2020 2021; cell 2019-2020, Phone (2019/2020); mobile 2010 2011 2012 2013 2014 2015",
        "phone 2019-05-12, cell 12.05.2019-14.05.2019, call 2019-05-12 12:30:45; Tel.: 1/2/2003",
        "MAC 00:1A:2B:3C:4D:5E, 255.255.255.0, v1.2.3.4, Chapter 1.2.3.4, § 1.2.3.4",
    ],
)
def test_not_found(text: str) -> None:
    assert kinds(text, ("US", "GB")) == {}


def test_national_phones_are_those_of_the_regions() -> None:
    text = "ring 020 7946 0958 today"
    assert kinds(text) == kinds(text, ("US",)) == {}
    assert kinds(text, ("GB",)) == {"020 7946 0958": "phone"}
    assert kinds("no 02079460958", ("GB",)) == {}  # bare digits


def test_several_in_one_text() -> None:
    text = "Ann <ann@a.org>, +44 20 7946 0958, 4111111111111111; bob@b.net."
    assert list(kinds(text).values()) == ["email", "phone", "card", "email"]
    assert redacted(text, find_personal_data(text)) == "Ann <<EMAIL>>, <PHONE>, <CARD>; <EMAIL>."


def test_the_signal() -> None:
    texts = ["a@b.org c@d.org 123-45-6789", "a dog", None]
    found = PersonalData().of_texts(texts)
    assert found["num_emails"] == [2, 0, None]
    assert found["num_national_ids"] == [1, 0, None]
    assert found["pii_kinds"] == [["email", "national_id:US"], [], None]
    assert found["text_redacted"] == ["<EMAIL> <EMAIL> <NATIONAL_ID>", "a dog", None]


PIECES = [
    "+49 30 1234567",
    "joe@example.org",
    "4111 1111 1111 1111",
    "123-45-6789",
    "8.8.8.8",
    "GB29NWBK60161331926819",
]
WORDS = st.lists(st.sampled_from(["a", "dog", "12", "Ü", "犬", "(x)", "...", "3 x 4"]), max_size=4).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(WORDS, st.sampled_from(PIECES)), min_size=1, max_size=4), WORDS)
def test_whatever_stands_around_it_nothing_is_left(pieces: list[tuple[str, str]], end: str) -> None:
    text = "; ".join(f"{words}, {piece}" for words, piece in pieces) + f"; {end}"
    found = find_personal_data(text)
    assert [text[each.start : each.end] for each in found] == [piece for _, piece in pieces]
    clean = redacted(text, found)
    assert not any(piece in clean for piece in PIECES)
    assert find_personal_data(clean) == []


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 20_000,
        "a" * 40_000 + "@",
        "a." * 20_000 + "@b",
        "A1" * 20_000,
        "1.1" * 13_000,
        "call 2019 " * 4_000,
        "call " + "2019 " * 8_000,
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    started = time.process_time()
    find_personal_data(text, ("US",))
    assert time.process_time() - started < 2
