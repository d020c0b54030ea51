import hashlib
from pathlib import Path

import pytest

from pipelines.deny import DenyList, HashList, expected_digest_differs
from pipelines.fetched import Fetched


def test_domains_with_their_subdomains_and_urls(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(
        "# ours\nExample.ORG  # since 2024\n*.münchen.example\n\nhttps://a.example/x#part\nhttp://b.example/p/*\n"
    )
    deny = DenyList(["bad.example", "127.0.0.9"], ["http://c.example:80/y"], [listed])
    denied = {
        "https://example.org/": "example.org",
        "http://www.img.example.org:8080/x": "example.org",
        "http://xn--mnchen-3ya.example/": "xn--mnchen-3ya.example",
        "http://bad.example./x": "bad.example",
        "http://127.0.0.9:81/x": "127.0.0.9",
        "https://a.example/x": "https://a.example/x",
        "http://b.example/p/q": "http://b.example/p/*",
        "http://c.example/y": "http://c.example/y",
    }
    assert {url: deny.entry_for(url) for url in denied} == denied
    for url in (
        "https://notexample.org/",
        "https://org/",
        "https://a.example/x?1",
        "http://b.example/p",
        "http://1.0.0.9/",
    ):
        assert deny.entry_for(url) is None
    assert DenyList().entry_for("https://a.example/") is None


@pytest.mark.parametrize("line", ["a b", "user@x", "x/y", "ftp://a.example/", "http://u:p@a.example/"])
def test_a_line_that_is_neither_is_named(tmp_path: Path, line: str) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"a.example\n{line}\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 2"):
        DenyList(files=[listed])


def test_known_hashes(tmp_path: Path) -> None:
    listed = tmp_path / "hashes.txt"
    listed.write_text(
        f"{hashlib.md5(b'one').hexdigest().upper()}\n{hashlib.sha256(b'two').hexdigest()}\n{hashlib.sha1(b'3').hexdigest()}\n"
    )
    known = HashList([listed])
    assert [known.algorithm_that_knows(Fetched("", body=body)) for body in (b"one", b"two", b"3", b"four")] == [
        "md5",
        "sha256",
        "sha1",
        None,
    ]
    listed.write_text("0123\n")
    with pytest.raises(ValueError, match="line 1"):
        HashList([listed])


def test_promised_digests_by_length() -> None:
    assert expected_digest_differs(Fetched("", body=b"x"), hashlib.md5(b"x").hexdigest()) is None
    assert expected_digest_differs(Fetched("", body=b"x"), hashlib.sha256(b"x").hexdigest().upper()) is None
    assert expected_digest_differs(Fetched("", body=b"x"), hashlib.md5(b"y").hexdigest()) == "md5"
    assert expected_digest_differs(Fetched("", body=b"x"), hashlib.sha256(b"y").hexdigest()) == "sha256"
    with pytest.raises(ValueError, match="neither"):
        expected_digest_differs(Fetched("", body=b"x"), "abc")
