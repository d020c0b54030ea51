"""img2dataset as an engine: its messages as reason codes, its rows in our account."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from curation.media.image_output import ImageOutput
from pipelines.download_options import Download
from pipelines.fetch_parts import OpenPart, fetch_parts
from pipelines.img2dataset_engine import reason_of_message
from tests.pipelines.loopback import Server


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        ("failed_to_download", "HTTP Error 404: Not Found", "http.4xx_gone"),
        ("failed_to_download", "HTTP Error 403: Forbidden", "http.forbidden"),
        ("failed_to_download", "HTTP Error 429: Too Many Requests", "http.rate_limited"),
        ("failed_to_download", "HTTP Error 503: Service Unavailable", "http.5xx"),
        ("failed_to_download", "<urlopen error [Errno -2] Name or service not known>", "net.dns_nxdomain"),
        ("failed_to_download", "<urlopen error [Errno -3] Temporary failure in name resolution>", "net.dns_servfail"),
        ("failed_to_download", "<urlopen error [Errno 111] Connection refused>", "net.connect_refused"),
        ("failed_to_download", "<urlopen error timed out>", "net.connect_timeout"),
        ("failed_to_download", "The read operation timed out", "dl.deadline"),
        ("failed_to_download", "Remote end closed connection without response", "net.reset"),
        ("failed_to_download", "IncompleteRead(10 bytes read, 90 more expected)", "dl.length_mismatch"),
        ("failed_to_download", "Use of image disallowed by X-Robots-Tag directive", "policy.x_robots"),
        ("failed_to_download", "nobody has seen this before", "http.bad_response"),
        ("failed_to_resize", "Image decoding error", "img.corrupt"),
        ("failed_to_resize", "image too small", "img.too_small"),
        ("failed_to_resize", "aspect ratio too large", "img.aspect"),
    ],
)
def test_messages_have_codes(status: str, message: str, reason: str) -> None:
    assert reason_of_message(status, message).value == reason


def test_it_is_refused_unless_the_recipe_says_so() -> None:
    with pytest.raises(ValidationError, match="allow_unguarded: true"):
        Download.model_validate({"engine": "img2dataset"})
    assert Download.model_validate({"engine": "img2dataset", "allow_unguarded": True}).engine == "img2dataset"


@pytest.mark.slow
def test_rows_and_bytes_are_img2datasets(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((300, 200)).save(buffer, "JPEG")
    picture = buffer.getvalue()
    with Server() as server:
        server.routes["/ok.jpg"] = lambda r: r.reply(picture)
        server.routes["/page"] = lambda r: r.reply(b"<html>no picture</html>")
        server.routes["/no"] = lambda r: r.reply(picture, headers={"X-Robots-Tag": "noai"})
        urls = [server.url(path) for path in ("/ok.jpg", "/gone", "/page", "/no", "/ok.jpg?other")]
        links = [
            {
                "media_uid": f"m{i}",
                "sample_uid": f"s{i}",
                "role": "primary",
                "modality": "image",
                "url": url,
                "url_canonical": url,
                "url_reason": None,
                "expected_hash": "ab" * 32 if i == 4 else None,
            }
            for i, url in enumerate(urls)
        ]
        not_fetched = {"url": "file:///etc/passwd", "url_canonical": None, "url_reason": "url.bad_scheme"}
        links.append({**links[0], "media_uid": "m9", **not_fetched})
        settings = Download(
            engine="img2dataset",
            allow_unguarded=True,
            image=ImageOutput(resize_mode="keep_ratio", image_size=64, format="jpg"),
        )
        found: dict[int, dict[str, Any]] = {}
        ended: list[int] = []
        part = OpenPart(0, links, found.__setitem__, lambda: ended.append(len(found)))
        fetch_parts(iter([part]), settings, 1, "run", tmp_path)
    assert ended == [len(links)]
    rows = [found[i] for i in range(len(links))]
    assert [row["media_uid"] for row in rows] == ["m0", "m1", "m2", "m3", "m4", "m9"]
    assert [(row["status"], row["reason"]) for row in rows] == [
        ("ok", None),
        ("failed", "http.4xx_gone"),
        ("failed", "img.corrupt"),
        ("refused", "policy.x_robots"),
        ("failed", "policy.hash_mismatch"),
        ("refused", "url.bad_scheme"),
    ]
    ok = rows[0]
    assert ok["sha256"] == hashlib.sha256(picture).hexdigest()
    assert ok["stored_sha256"] == hashlib.sha256(ok["bytes"]).hexdigest()
    assert Image.open(io.BytesIO(ok["bytes"])).size == (ok["width_px"], ok["height_px"]) == (96, 64)
    assert (ok["original_width_px"], ok["original_height_px"]) == (300, 200)

    from img2dataset.resizer import Resizer

    alone = Resizer(64, "keep_ratio", True, encode_quality=95, encode_format="jpg")(io.BytesIO(picture))
    assert alone[0] == ok["bytes"]  # bit for bit
