"""pretrain/rows.py, version.py: a version's rows at random, here and through S3's protocol, one read each."""

from __future__ import annotations

import json
import pickle
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs
from tiny import sample, write_version

from curation.byte_ranges import byte_ranges
from curation.step import digest
from curation.table import write_part
from pretrain.rows import Rows, map_rows
from pretrain.version import Version, VersionError, find_version, read_version


def with_index(version: Version) -> Version:
    """The version with its byte index beside the shards, as `pipelines.pack` writes it."""
    path = version.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for number, shard in enumerate(manifest["shards"]):
        table = byte_ranges(version.folder / shard["name"], "image")
        part = write_part(version.folder / "ranges", number, digest(shard["name"]), table)
        shard["ranges"] = f"ranges/{part.path.name}"
    path.write_text(json.dumps(manifest))
    return find_version(version.folder.parent.parent, version.name)


def check(rows: Rows, expected: list[dict[str, Any]]) -> None:
    assert len(rows) == len(expected)
    assert rows.num_texts == sum(len(each["texts"]) for each in expected)
    for number in (5, 0, 44, 20, 19, 47):
        row = expected[number]
        assert rows.image(number) == row["image"]
        assert rows.uid(number) == row["sample_uid"]
        assert [rows.text(text) for text in rows.text_rows(number)] == [text["text"] for text in row["texts"]]


def test_rows_are_those_of_the_version(tmp_path: Path) -> None:
    samples = [sample(n) for n in range(48)]
    samples[7]["image"] = None
    samples[8]["texts"] = []
    version = write_version(tmp_path, samples)
    made_here = map_rows(tmp_path / "cache", version)
    check(made_here, samples)
    assert made_here.image(7) == b""
    assert list(made_here.text_rows(8)) == []
    copy = pickle.loads(pickle.dumps(made_here))  # noqa: S301  (made here)
    check(copy, samples)
    packed = map_rows(tmp_path / "other", with_index(version))
    check(packed, samples)


class Bucket(BaseHTTPRequestHandler):
    """Enough of S3 to read objects: HEAD, and GET with a range. Notes what is asked for."""

    protocol_version = "HTTP/1.1"
    root: Path
    address: str
    asked: list[tuple[str, str | None]]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = self.root / self.path.partition("?")[0].removeprefix("/bucket").lstrip("/")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if with_body:
            self.asked.append((path.name, self.headers.get("Range")))
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = path.read_bytes()
        size = len(data)
        if wanted:
            data = data[int(wanted[1]) : int(wanted[2]) + 1]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{size}")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 09:00:00 GMT")
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[fs.FileSystem, type[Bucket]]]:
    handler = type("TestBucket", (Bucket,), {"root": tmp_path, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"127.0.0.1:{server.server_port}"
    handler.address = f"http://{address}"
    yield fs.S3FileSystem(anonymous=True, endpoint_override=address, scheme="http", region="us-east-1"), handler
    server.shutdown()
    server.server_close()


def test_a_remote_row_is_one_ranged_request(tmp_path: Path, bucket: tuple[fs.FileSystem, type[Bucket]]) -> None:
    files, handler = bucket
    samples = [sample(n) for n in range(48)]
    version = with_index(write_version(tmp_path, samples))
    there = Path("bucket") / version.folder.relative_to(tmp_path)
    remote = read_version(files, there, f"s3://{there}")
    remote.verify()
    rows = map_rows(tmp_path / "cache", remote)
    check(rows, samples)
    handler.asked.clear()
    assert rows.image(30) == samples[30]["image"]
    ((name, asked),) = handler.asked
    start = byte_ranges(version.folder / name, "image").to_pylist()[10]["start"]
    assert asked == f"bytes={start}-{start + len(samples[30]['image']) - 1}"
    copy = pickle.loads(pickle.dumps(rows))  # noqa: S301  (made here)
    check(copy, samples)


def test_a_row_of_a_version_on_a_web_server_is_one_ranged_request(
    tmp_path: Path, bucket: tuple[fs.FileSystem, type[Bucket]]
) -> None:
    _, handler = bucket
    samples = [sample(n) for n in range(48)]
    version = with_index(write_version(tmp_path, samples))
    there = f"{handler.address}/{version.folder.relative_to(tmp_path)}"
    remote = find_version(tmp_path, there)
    assert (remote.digest, remote.place) == (version.digest, there)
    remote.verify()
    rows = map_rows(tmp_path / "cache", remote)
    check(pickle.loads(pickle.dumps(rows)), samples)  # noqa: S301  (made here)
    rows.image(31)  # the file is open now
    handler.asked.clear()
    assert rows.image(30) == samples[30]["image"]
    ((name, asked),) = handler.asked
    start = byte_ranges(version.folder / name, "image").to_pylist()[10]["start"]
    assert asked == f"bytes={start}-{start + len(samples[30]['image']) - 1}"
    with pytest.raises(VersionError, match="it has no manifest"):
        find_version(tmp_path, f"{handler.address}/nothing")
    with pytest.raises(VersionError, match="cannot be reached"):
        find_version(tmp_path, "http://127.0.0.1:9/versions/x")  # nobody listens on the discard port
    with pytest.raises(VersionError, match=r"warp.*valid: s3://.*https://"):
        find_version(tmp_path, "warp://core/version")


def test_a_remote_version_without_an_index_says_what_to_do(
    tmp_path: Path, bucket: tuple[fs.FileSystem, type[Bucket]]
) -> None:
    version = write_version(tmp_path, [sample(n) for n in range(4)])
    there = Path("bucket") / version.folder.relative_to(tmp_path)
    remote = read_version(bucket[0], there, f"s3://{there}")
    with pytest.raises(VersionError, match="packed without a byte index; pack it again"):
        map_rows(tmp_path / "cache", remote)
    with pytest.raises(VersionError, match="it has no manifest"):
        read_version(bucket[0], Path("bucket/nothing"), "s3://bucket/nothing")
