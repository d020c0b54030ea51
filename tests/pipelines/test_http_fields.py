import datetime
import email.utils

import pytest

from pipelines.http_fields import redirect_target, retry_after_s

BASE = "https://example.com/a/b?q=1"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("c", "https://example.com/a/c"),
        ("/c#x", "https://example.com/c"),
        ("//other.example/c", "https://other.example/c"),
        ("?z", "https://example.com/a/b?z"),
        ("https://0x7f.1/", "https://127.0.0.1/"),
        ("/\xc3\xa9", "https://example.com/%C3%A9"),  # UTF-8 bytes
        ("/\xe9", "https://example.com/%C3%A9"),  # Latin-1
        ("http://example.com/", None),
        ("ftp://example.com/", None),
        ("https://u:p@example.com/", None),
        ("https://[::1/", None),
        ("https://exa mple.com/", None),
    ],
)
def test_redirect_target(location: str, target: str | None) -> None:
    out, why = redirect_target(BASE, location)
    assert out == target
    assert bool(why) == (target is None)


def test_retry_after() -> None:
    assert retry_after_s(None) is None
    assert retry_after_s("soon") is None
    assert retry_after_s("-5") is None
    assert retry_after_s(" 120 ") == 120
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    seconds = retry_after_s(email.utils.format_datetime(then, usegmt=True))
    assert seconds is not None
    assert 55 < seconds <= 60
    assert retry_after_s("Sun, 06 Nov 1994 08:49:37 GMT") == 0


TOO_LARGE = "9" * 30
HOSTILE = ["\xb2", "1\xb3", f"Mon, 01 Jan {TOO_LARGE} 00:00:00 GMT", f"Mon, 01 Jan 2020 00:00:00 +{TOO_LARGE}"]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_retry_after_says_nothing(value: str) -> None:
    assert retry_after_s(value) is None
