import json
import time

import pytest

from pipelines.site_rules import MAX_FILE_BYTES, SiteRules

HERE = "https://example.com"


def objection(path: str, token: str = "tamis", **files: bytes | None) -> str | None:
    found = SiteRules({name.replace("_", "."): content for name, content in files.items()}, token).objection(
        HERE + path
    )
    return None if found is None else found[0].value


ROBOTS: list[tuple[str, str, str | None]] = [
    # groups and rules
    ("", "/a", None),
    ("User-agent: *\nDisallow:", "/a", None),
    ("User-agent: *\nDisallow: /", "/a", "policy.robots"),
    ("user-agent: *\ndisallow: /a", "/ab", "policy.robots"),
    ("User-agent: *\nDisallow: /a/\nAllow: /a/b", "/a/b.png", None),
    ("User-agent: *\nDisallow: /*.png$", "/x/y.png", "policy.robots"),
    ("User-agent: *\nDisallow: /*.png$", "/x/y.png?v=1", None),
    ("User-agent: tamis\nDisallow: /", "/a", "policy.robots"),
    ("User-agent: TAMIS\nDisallow: /", "/a", "policy.robots"),
    ("User-agent: other\nDisallow: /", "/a", None),
    ("User-agent: other\nUser-agent: tamis\nDisallow: /", "/a", "policy.robots"),
    ("User-agent: *\nDisallow: /\nUser-agent: tamis\nAllow: /", "/a", None),
    ("User-agent: tamis\nAllow: /\n\nUser-agent: *\nDisallow: /", "/a", None),
    ("\ufeffUser-agent: *\nDisallow: /", "/a", "policy.robots"),
    ("User-agent: *\r\nDisallow: /\r\n", "/a", "policy.robots"),
    ("User-agent: * # all\nDisallow: /x # this", "/x", "policy.robots"),
    ("<html><body>Not found</body></html>", "/a", None),
    ("Disallow: /", "/a", None),  # a rule for nobody (RFC 9309, 2.2.1)
    ("User-agent: *\nDisallow: /é", "/%C3%A9", "policy.robots"),
    # Cloudflare's Content-Signal
    ("User-agent: *\nContent-Signal: search=yes,ai-train=no\nAllow: /", "/a", "policy.content_signal"),
    ("User-Agent: *\ncontent-signal: ai-train = NO , search=yes", "/a", "policy.content_signal"),
    ("User-agent: *\nContent-Signal: search=yes, ai-train=yes", "/a", None),
    ("User-agent: *\nContent-Signal: search=no, ai-input=no", "/a", None),
    ("User-agent: *\nContent-Signal: /art/ ai-train=no", "/art/x.png", "policy.content_signal"),
    ("User-agent: *\nContent-Signal: /art/ ai-train=no", "/b/x.png", None),
    ("Content-Signal: ai-train=no", "/a", "policy.content_signal"),  # before any name: everybody's
    ("User-agent: other\nContent-Signal: ai-train=no", "/a", None),
    ("User-agent: other\nUser-agent: *\nContent-Signal: ai-train=no\n", "/a", "policy.content_signal"),
    ("User-agent: *\nAllow: /\nUser-agent: other\nContent-Signal: ai-train=no", "/a", None),
    ("# Content-Signal: ai-train=no\nUser-agent: *\nAllow: /", "/a", None),
    ("User-agent: *\nDisallow: /\nContent-Signal: ai-train=no", "/a", "policy.robots"),
    # AIPREF's Content-Usage
    ("User-agent: *\nContent-Usage: train-ai=n", "/a", "policy.content_usage"),
    ("User-agent: *\nContent-Usage: train-ai=n\nContent-Usage: /open/ train-ai=y", "/open/a", None),
    ("User-agent: *\nContent-Usage: train-ai=n\nContent-Usage: /open/ train-ai=y", "/shut/a", "policy.content_usage"),
    ("User-agent: *\nContent-Usage: train-ai=y, search=n", "/a", None),
    ("User-agent: *\nContent-Usage: bots=y, train-ai=n", "/a", "policy.content_usage"),
    ("User-agent: *\nContent-Usage: /*.jpg$ train-ai=n", "/a/b.jpg", "policy.content_usage"),
    ("User-agent: *\nContent-Usage: /*.jpg$ train-ai=n", "/a/b.png", None),
    ("User-agent: *\nContent-Usage: train-ai", "/a", None),
    ("User-agent: tamis\nAllow: /\n\nUser-agent: *\nContent-Usage: train-ai=n", "/a", None),
]


@pytest.mark.parametrize(("text", "path", "reason"), ROBOTS)
def test_robots(text: str, path: str, reason: str | None) -> None:
    assert objection(path, robots_txt=text.encode()) == reason


AI_TXT: list[tuple[str, str, str | None]] = [
    ("User-Agent: *\nDisallow: /", "/a.jpg", "policy.ai_txt"),
    ("# Spawning AI\nUser-Agent: *\nAllow: *.txt\nDisallow: *.jpg", "/a/b.jpg", "policy.ai_txt"),
    ("User-Agent: *\nAllow: *.txt\nDisallow: *.jpg", "/a/b.txt", None),
    ("User-Agent: *\nAllow: /", "/a.jpg", None),
    ("<!doctype html>", "/a.jpg", None),
]


@pytest.mark.parametrize(("text", "path", "reason"), AI_TXT)
def test_ai_txt(text: str, path: str, reason: str | None) -> None:
    assert objection(path, ai_txt=text.encode()) == reason


TDMREP: list[tuple[object, str, str | None]] = [
    ([{"location": "/", "tdm-reservation": 1}], "/a", "policy.tdmrep"),
    ([{"location": "/", "tdm-reservation": "1", "tdm-policy": "https://x.example/p"}], "/a", "policy.tdmrep"),
    ([{"location": "/", "tdm-reservation": 0}], "/a", None),
    ([{"location": "/a/*", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}], "/a/b", "policy.tdmrep"),
    ([{"location": "/a/*", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}], "/b", None),
    ([{"location": "/*.jpg$", "tdm-reservation": 1}], "/x.jpg", "policy.tdmrep"),
    ([{"location": "pictures/", "tdm-reservation": 1}], "/pictures/x", "policy.tdmrep"),
    ([{"location": "/a\nAllow: /", "tdm-reservation": 1}], "/aAllow: /x", "policy.tdmrep"),
    ([{"tdm-reservation": 1}], "/x", "policy.tdmrep"),
    ({"location": "/", "tdm-reservation": 1}, "/x", "policy.tdmrep"),
    ([{"location": "/"}, 7, None, "x", {"tdm-reservation": True}], "/x", None),
    ("nothing", "/x", None),
]


@pytest.mark.parametrize(("rules", "path", "reason"), TDMREP)
def test_tdmrep(rules: object, path: str, reason: str | None) -> None:
    assert objection(path, tdmrep_json=json.dumps(rules).encode()) == reason


def test_hostile_files_say_nothing_and_cost_little() -> None:
    started = time.monotonic()
    files: list[bytes] = [
        b"\xff\xfe\x00" * 1000,
        b"[" * MAX_FILE_BYTES,
        b"User-agent: *\n" + b"Disallow: /" + b"*a" * 5000,
    ]
    files.append(b"User-agent: *\n" + b"Disallow: /*a*b*c*d$\n" * (MAX_FILE_BYTES // 22))
    files.append(b"User-agent: *\n" + b"Content-Usage: /*a*b train-ai=n\n" * (MAX_FILE_BYTES // 33))
    for content in files:
        rules = SiteRules({"robots.txt": content, "ai.txt": content, "tdmrep.json": content}, "tamis")
        for i in range(10):
            rules.objection(f"{HERE}/{'a' * 1500}{i}")
    assert time.monotonic() - started < 10


def test_crawl_delay_and_the_record() -> None:
    rules = SiteRules({"robots.txt": b"User-agent: *\nCrawl-delay: 2.5", "ai.txt": None}, "tamis")
    assert rules.crawl_delay_s == 2.5
    assert rules.consent() == "robots.txt=allow; ai.txt=absent; tdmrep.json=ignored; rules=1"
    assert rules.consent("robots.txt") == "robots.txt=deny; ai.txt=absent; tdmrep.json=ignored; rules=1"
    for value in ("-1", "nan", "inf", "soon"):
        assert SiteRules({"robots.txt": f"User-agent: *\nCrawl-delay: {value}".encode()}, "tamis").crawl_delay_s is None
