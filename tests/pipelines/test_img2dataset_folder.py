"""An output folder of img2dataset, written by its own writers, as a source: nothing is fetched, nothing is lost."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.main_job import load, perform
from pipelines.img2dataset_folder import is_output, places, shards
from pipelines.ingest import pending_sources
from pipelines.sources import SourceError
from pipelines.store import Store
from tests.pipelines import loopback
from tests.stores import links_file, options, recipe, rows, run

COLUMNS = {"url": "url", "text": "caption"}


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40 + number, 30), (number * 9 % 255, 99, 40)).save(out, "JPEG")
    return out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Written:
    """Two shards of five rows: seven pictures, a 404, a refusal, and bytes that are no picture."""

    def __init__(self, folder: Path, format: str, host: str = "http://127.0.0.1:9") -> None:
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask its maker's server
        from img2dataset.writer import ParquetSampleWriter, WebDatasetSampleWriter

        self.folder, self.host = folder, host
        folder.mkdir()
        names = ["url", "caption", "key", "status", "error_message", "sha256"]
        writers = {"parquet": ParquetSampleWriter, "webdataset": WebDatasetSampleWriter}
        self.bodies = {f"{host}/{i}.jpg": picture(i) for i in range(10)}
        self.bodies[f"{host}/2.jpg"] = b"<html>"
        for shard in range(2):
            schema = pa.schema([(name, pa.string()) for name in names])
            writer = writers[format](shard, str(folder), True, 5, schema, "jpg")
            for i in range(5 * shard, 5 * shard + 5):
                url = f"{host}/{i}.jpg"
                error = {1: "HTTP Error 404: Not Found", 6: "Use of image disallowed by X-Robots-Tag directive"}.get(i)
                status = "failed_to_download" if error else "success"
                meta: dict[str, str | None] = {
                    "url": url,
                    "caption": f"a picture {i}",
                    "key": f"{i:09d}",
                    "status": status,
                }
                meta |= {"error_message": error, "sha256": None if error else sha256(b"as fetched %d" % i)}
                writer.write(None if error else self.bodies[url], meta["key"], meta["caption"], meta)
            writer.close()
            (folder / f"{shard:05d}_stats.json").write_text(json.dumps({"count": 5}))


@pytest.fixture(scope="module", params=["parquet", "webdataset"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("i2d") / "out", request.param)


def taken(written: Written, root: Path, **changes: Any) -> list[dict[str, Any]]:
    made = recipe(root / "r.yaml", source={"columns": COLUMNS}, pack={"samples_per_shard": 6}, **changes)
    run(root / "store", made, written.folder)
    return rows(root / "store", "select * from media order by url")


def test_every_row_is_there_with_its_bytes_or_its_reason(written: Written, tmp_path: Path) -> None:
    media = taken(written, tmp_path)
    assert [row["url"] for row in media] == sorted(written.bodies)
    reasons = {row["url"][-5:]: (row["status"], row["reason"]) for row in media if row["reason"]}
    assert reasons == {
        "1.jpg": ("failed", "http.4xx_gone"),
        "2.jpg": ("failed", "img.not_image"),
        "6.jpg": ("refused", "policy.x_robots"),
    }
    for row in media:
        if row["status"] == "ok":
            body = written.bodies[row["url"]]
            assert bytes(row["bytes"]) == body
            assert row["sha256"] == row["stored_sha256"] == sha256(body)
            assert (row["image_format"], row["height_px"]) == ("JPEG", 30)
    assert next(row["detail"] for row in media if row["url"].endswith("1.jpg")) == "HTTP Error 404: Not Found"
    kept = rows(tmp_path / "store", "select text from ledger where kept")
    assert sorted(row["text"] for row in kept) == [f"a picture {i}" for i in (0, 3, 4, 5, 7, 8, 9)]


def test_lists_and_promises_hold_for_them_too(written: Written, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text(sha256(written.bodies[f"{written.host}/3.jpg"]) + "\n")
    fetch = {"deny_urls": [f"{written.host}/4.jpg"], "known_bad_hashes": [str(bad)], "max_bytes": 10_000}
    media = taken(written, tmp_path, download={"fetch": fetch, "image": {"min_image_size": 30, "max_image_area": 1440}})
    reasons = {row["url"][-5:-4]: row["reason"] for row in media}
    assert [reasons[str(i)] for i in (3, 4, 7, 8, 9)] == [
        "policy.known_bad_hash",
        "policy.domain_denied",
        None,
        None,
        "img.too_large",
    ]


def test_a_promise_is_kept_by_what_img2dataset_fetched(written: Written, tmp_path: Path) -> None:
    wrong = {**COLUMNS, "hash": "sha256"}
    made = recipe(tmp_path / "r.yaml", source={"columns": wrong}, pack={"samples_per_shard": 6})
    run(tmp_path / "store", made, written.folder)
    found = rows(tmp_path / "store", "select reason, count(*) as n from media group by all")
    assert {row["reason"]: row["n"] for row in found}[None] == 7


def test_what_failed_there_can_be_fetched_here(tmp_path: Path) -> None:
    import dataclasses

    with loopback.Server() as server:
        written = Written(tmp_path / "out", "parquet", server.url(""))
        table = pq.read_table(written.folder / "00000.parquet")
        message = pa.array(["timed out" if text else None for text in table.column("error_message").to_pylist()])
        at = table.schema.get_field_index("error_message")
        pq.write_table(table.set_column(at, "error_message", message), written.folder / "00000.parquet")
        server.routes["/1.jpg"] = lambda r: r.reply(picture(1))
        made = recipe(tmp_path / "r.yaml", source={"columns": COLUMNS}, pack={"samples_per_shard": 6})
        wanted = options(tmp_path / "store", made, [written.folder])
        perform(wanted, lambda _: None)
        assert server.seen == []
        perform(dataclasses.replace(wanted, retry_failed=True), lambda _: None)
        assert server.hits["/1.jpg"] == 1
        assert {path for path in server.hits if path.endswith("jpg")} == {"/1.jpg"}
    assert rows(tmp_path / "store", "select count(*) as n from media where status = 'ok'")[0]["n"] == 8


def test_a_truncated_tar_names_its_rows(tmp_path: Path) -> None:
    written = Written(tmp_path / "out", "webdataset")
    tar = written.folder / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:5120])  # img2dataset was killed
    found = [json.loads(place) for place in places(written.folder / "00001.parquet").to_pylist()]
    lost = [place for place in found if place.get("error") == "dl.empty"]
    assert lost
    assert all(place["detail"] == "not in 00001.tar" for place in lost)
    assert len(found) == 5


def test_a_folder_of_such_folders_is_told(tmp_path: Path) -> None:
    """Else the tables of the shards would be link tables, and their pictures fetched again."""
    for name in ("one", "two"):
        (tmp_path / "links" / name).mkdir(parents=True)
        links_file(tmp_path / "links" / name / "00000.parquet", [("http://x.example/", "y")])
    made = load(options(tmp_path / "store", recipe(tmp_path / "r.yaml"), [tmp_path / "links"]))
    store = Store.create(tmp_path / "store")
    assert len(pending_sources(made, store)[1]) == 2
    (tmp_path / "links" / "two" / "00000_stats.json").write_text("{}")
    with pytest.raises(SourceError, match=r"img2dataset wrote the folder .*/links/two .* --links "):
        pending_sources(made, store)


def test_folders_that_cannot_be_used_are_named(written: Written, tmp_path: Path) -> None:
    assert is_output(written.folder)
    assert not is_output(tmp_path)
    (tmp_path / "00000_stats.json").write_text("{}")
    with pytest.raises(SourceError, match=r"00000\.parquet: is missing"):
        shards(tmp_path)
    links = links_file(tmp_path / "00000.parquet", [("http://x/", "y")])
    with pytest.raises(SourceError, match=r"00000\.parquet: has no column 'key'"):
        places(links)
    pq.write_table(pa.table({"key": ["0"], "status": ["success"], "error_message": [None]}), links)
    with pytest.raises(SourceError, match=r"holds no pictures, and there is no 00000\.tar"):
        places(links)
