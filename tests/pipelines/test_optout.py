import datetime

import pytest

from pipelines.optout import opt_out_reason

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
FUTURE = ["25 Jun 2099 15:00:00 PST", "Wed, 25 Jun 2099 15:00:00 GMT", "Friday, 25-Jun-60 15:00:00 GMT", "2099-06-25"]
FUTURE += ["2099-06-25T15:00:00Z", "2099-06-25T15:00:00+02:00", "never", ""]
FUTURE += [f"Mon, 01 Jan {'9' * 30} 00:00:00 GMT"]
PAST = ["25 Jun 2019 15:00:00 PST", "Tue, 25 Jun 2019 15:00:00 GMT", "Tuesday, 25-Jun-19 15:00:00 GMT", "2019-06-25"]
PAST += ["2019-06-25T15:00:00Z", "21 Nov 2026 15:00:00 PST"]

OBJECTS = ["noai", "NOAI", " noai ", "noimageai", "noml", "none", "noindex", "noimageindex", "noai,noimageai"]
OBJECTS += ["noindex, noimageindex", "none, noai", "nofollow, noai", "all, noai", "max-snippet: 20, noindex", ",noai,"]
OBJECTS += ["tamis: noai", "TAMIS: noai", "tamis:noai", "*: noai", "*:noai", "tamis: nofollow, noai"]
OBJECTS += ["otherbot: all, tamis: noai", "otherbot: nofollow, *: noai", "tamis : noai", "otherbot: all, *: noindex"]
OBJECTS += [f"unavailable_after: {date}" for date in PAST]
OBJECTS += [f"noai, unavailable_after: {date}" for date in FUTURE]
OBJECTS += [f"unavailable_after: {date}, noai" for date in FUTURE]
OBJECTS += [f"tamis: unavailable_after: {date}" for date in PAST]

SILENT = ["", "all", "index, follow", "nofollow", "noarchive, nosnippet", "max-image-preview:large", "otherbot: noai"]
SILENT += [
    "otherbot: noindex, noai",
    "otherbot: none",
    "tamis: all",
    "noaix",
    "xnoai",
    "no ai",
    "GPTBot: noai, noimageai",
]
SILENT += ["tamisbot: noai", "max-snippet: 20, max-image-preview: large", "otherbot: noai, tamis: all"]
SILENT += [f"unavailable_after: {date}" for date in FUTURE]
SILENT += [f"otherbot: unavailable_after: {date}" for date in PAST]


@pytest.mark.parametrize("value", OBJECTS)
def test_x_robots_objects(value: str) -> None:
    assert opt_out_reason({"x-robots-tag": [value]}, "tamis", NOW) == ("policy.x_robots", value)
    assert opt_out_reason({"x-robots-tag": ["all", value]}, "tamis", NOW) == ("policy.x_robots", value)


@pytest.mark.parametrize("value", SILENT)
def test_x_robots_does_not_object(value: str) -> None:
    assert opt_out_reason({"x-robots-tag": [value]}, "tamis", NOW) is None
    assert opt_out_reason({"x-robots-tag": [value, "noai"]}, "tamis", NOW) == ("policy.x_robots", "noai")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("tdm-reservation", "1", "policy.tdmrep"),
        ("tdm-reservation", " 1 ", "policy.tdmrep"),
        ("tdm-reservation", "0", None),
        ("tdm-reservation", "", None),
        ("content-usage", "train-ai=n", "policy.content_usage"),
        ("content-usage", "train-ai = n", "policy.content_usage"),
        ("content-usage", "search=y, train-ai=n;exp=1", "policy.content_usage"),
        ("content-usage", "train-ai=y, train-ai=n", "policy.content_usage"),
        ("content-usage", "train-ai=n, train-ai=y", None),
        ("content-usage", "train-ai=y", None),
        ("content-usage", "train-ai", None),
        ("content-usage", "search=n", None),
        ("tdm-policy", "https://example.com/policy.json", None),
    ],
)
def test_other_headers(name: str, value: str, reason: str | None) -> None:
    out = opt_out_reason({name: [value]})
    assert (out[0] if out else None) == reason
