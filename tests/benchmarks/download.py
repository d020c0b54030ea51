"""Download side by side with img2dataset 1.47, on this machine, in this run.

    python tests/benchmarks/download.py --pictures 5000 --tls --latency --psnr

Both engines fetch the same JPEGs from the same nginx on loopback and resize them to 256 px keep-ratio, JPEG q95, in
turn; tamis with all its guards on (robots.txt, ai.txt, TDMRep, address policy, decoder child). CPU seconds are those of
the process and all its children, start-up, reading the links and writing the result included; memory is the peak RSS of
the largest process (tamis' ingest is a process of its own, as under Ray). Medians of --repeats runs. The latency case
is wall time until the command ends, with as many rows a second as that makes. Beyond what img2dataset does, tamis keeps
the digests of both the bytes as they came and as they are stored, page checksums and a synced file.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import web_pictures  # noqa: E402
import web_servers  # noqa: E402

ENGINES = ("tamis", "img2dataset")


@dataclass(frozen=True)
class Measured:
    """One run of an engine: CPU seconds with children, wall seconds, peak RSS of its largest process, pictures kept."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    stored: int


def run_engine(engine: str, links: Path, root: Path, env: dict[str, str], **settings: Any) -> Measured:
    """Run an engine in a process of its own, and count what it stored."""
    store = root / "store"
    shutil.rmtree(store, ignore_errors=True)
    given = {"links": str(links), "store": str(store), "samples": 1000, "connections": 64, "retries": 0, **settings}
    command = [sys.executable, str(HERE / "engines.py"), engine, json.dumps(given)]
    log = (root / f"{engine}.log").open("wb")
    started = time.monotonic()
    given_env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as installed
    process = subprocess.Popen(command, stdout=log, stderr=log, env={**given_env, **env}, cwd=root)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - started
    log.close()
    if status:
        raise SystemExit(f"{engine} ended with {status}; see {root / f'{engine}.log'}")
    stored = _stored(engine, store)
    return Measured(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / 1024, stored)


def _stored(engine: str, store: Path) -> int:
    if engine == "tamis":
        paths, column, good = (store / "tables" / "media").rglob("*.parquet"), "status", "ok"
        if not (store / "tables" / "media").exists():
            paths = (path for path in store.rglob("*.parquet") if "media" in path.parts)
    else:
        paths, column, good = store.glob("*.parquet"), "status", "success"
    return sum(pq.read_table(path, columns=[column]).column(0).to_pylist().count(good) for path in paths)


def write_links(path: Path, urls: list[str]) -> Path:
    pq.write_table(pa.table({"url": urls, "caption": [f"picture {n}" for n in range(len(urls))]}), path)
    return path


def compare(name: str, links: Path, root: Path, env: dict[str, str], repeats: int, **settings: Any) -> dict[str, Any]:
    """Both engines in turn; the medians, and tamis against img2dataset."""
    runs: dict[str, list[Measured]] = {engine: [] for engine in ENGINES}
    for turn in range(repeats):
        for engine in ENGINES if turn % 2 == 0 else ENGINES[::-1]:
            measured = run_engine(engine, links, root, env, **settings)
            runs[engine].append(measured)
            print(f"    {name} {engine}: {measured}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return {engine: _medians(of) for engine, of in runs.items()}


def _medians(runs: list[Measured]) -> dict[str, float]:
    return {
        field: statistics.median(getattr(each, field) for each in runs)
        for field in ("cpu_s", "wall_s", "peak_mb", "stored")
    }


def row(name: str, num: int, found: dict[str, Any]) -> str:
    """One line of the table."""
    ours, theirs = found["tamis"], found["img2dataset"]
    cpu, their_cpu = (each["cpu_s"] / num * 1000 for each in (ours, theirs))
    rate, their_rate = (each["stored"] / each["wall_s"] for each in (ours, theirs))
    return (
        f"| {name} | {cpu:.2f} | {their_cpu:.2f} | {their_cpu / cpu:.1f}x | {rate:.0f} | {their_rate:.0f} "
        f"| {ours['peak_mb']:.0f} | {theirs['peak_mb']:.0f} | {ours['stored']:.0f} / {theirs['stored']:.0f} |"
    )


def speed(arguments: argparse.Namespace, root: Path) -> None:
    """Start-up, HTTP and HTTPS."""
    paths = web_pictures.make(arguments.work / "pictures", arguments.pictures, arguments.corpus)
    sizes = [path.stat().st_size for path in paths]
    print(f"\n{len(paths)} JPEGs, mean {np.mean(sizes) / 1000:.1f} kB, median {np.median(sizes) / 1000:.1f} kB")
    env = {"SSL_CERT_FILE": str(web_servers.make_certificates(root))}
    with web_servers.nginx(root, arguments.work / "pictures") as (http, https):
        hosts = web_servers.HOSTS
        urls = [f"{hosts[i % len(hosts)]}:{{port}}/{path.name}" for i, path in enumerate(paths)]
        print("\n| case | tamis CPU-s/1,000 | img2dataset | ratio | tamis rows/s | img2dataset ", end="")
        print("| tamis MB | img2dataset | stored |\n|---|---|---|---|---|---|---|---|---|", flush=True)
        two = write_links(root / "two.parquet", [f"http://{url.format(port=http)}" for url in urls[:2]])
        found = compare("start-up", two, root, env, arguments.repeats)
        start = {engine: found[engine]["cpu_s"] for engine in ENGINES}
        cases = [("HTTP", http)] + ([("HTTPS", https)] if arguments.tls else [])
        for name, port in cases:
            links = write_links(root / f"{name}.parquet", [f"{name.lower()}://{url.format(port=port)}" for url in urls])
            found = compare(name, links, root, env, arguments.repeats, connections=arguments.connections)
            print(row(f"{name}, whole command", len(urls), found), flush=True)
            steady = {e: {**found[e], "cpu_s": found[e]["cpu_s"] - start[e]} for e in ENGINES}
            print(row(f"{name}, without start-up", len(urls), steady), flush=True)
        print(
            f"\nstart-up (2 pictures): tamis {start['tamis']:.2f} CPU-s, img2dataset {start['img2dataset']:.2f} CPU-s"
        )


def latency(arguments: argparse.Namespace, root: Path) -> None:
    """200 ms a request, 5% of the hosts refuse, 5% accept and never answer."""
    import asyncio

    paths = web_pictures.make(arguments.work / "pictures", min(arguments.pictures, 500), arguments.corpus)
    pictures = {f"/{path.name}".encode(): path.read_bytes() for path in paths}
    hosts = [f"127.2.{n // 250}.{n % 250 + 1}" for n in range(arguments.latency_hosts)]
    silent, dead_port = frozenset(hosts[10::20]), web_servers.free_port()
    port = web_servers.free_port()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(_until_stopped(port, pictures, silent),), daemon=True
    )
    thread.start()
    time.sleep(0.5)
    num = arguments.latency_rows
    urls = []
    for index in range(num):
        host = hosts[index % len(hosts)]
        at = dead_port if hosts.index(host) % 20 == 5 else port
        urls.append(f"http://{host}:{at}/{paths[index % len(paths)].name}?{index}")
    links = write_links(root / "latency.parquet", urls)
    print(f"\n{num} links on {len(hosts)} hosts, 200 ms, 5% dead, 5% silent (10 s), parts of {arguments.latency_part}")
    theirs = run_engine("img2dataset", links, root, {}, samples=arguments.latency_part, connections=256)
    many = arguments.latency_connections
    ours = run_engine("tamis", links, root, {}, samples=arguments.latency_part, connections=many)
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    for name, each in (("tamis", ours), ("img2dataset", theirs)):
        rate, spent = f"{num / each.wall_s:.0f} rows/s", f"{each.wall_s:.1f} s, {each.cpu_s:.1f} CPU-s"
        print(f"{name}: {rate}, {each.stored} stored, {spent}")
    print(f"ratio {theirs.wall_s / ours.wall_s:.1f}x", flush=True)


async def _until_stopped(port: int, pictures: dict[bytes, bytes], silent: frozenset[str]) -> None:
    by_path = _Queryless(pictures)
    await web_servers.serve_slowly(port, by_path, 0.2, silent)


class _Queryless(dict[bytes, bytes]):
    """Pictures by path, whatever stands behind the question mark."""

    def get(self, key: bytes, default: Any = None) -> Any:
        return super().get(key.partition(b"?")[0], default)


def fidelity(arguments: argparse.Namespace) -> None:
    """PSNR of the stored pixels to a full decode with the mean over the area, before JPEG coding."""
    import cv2

    from curation.media.decode import Decoder
    from curation.media.image_output import ImageOutput

    paths = web_pictures.make(arguments.work / "pictures", arguments.pictures, arguments.corpus)
    print("\n| target | median PSNR | 5th percentile | lowest | pictures |\n|---|---|---|---|---|")
    for side in (224, 256, 384):
        values = []
        with Decoder(output=ImageOutput(resize_mode="keep_ratio", image_size=side, format="png")) as decoder:
            for path in paths:
                out = decoder.convert(path.read_bytes())
                if out.stored is None or min(out.width_px or 0, out.height_px or 0) <= side:
                    continue
                full = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
                wanted = cv2.resize(full, (out.out_width_px, out.out_height_px), interpolation=cv2.INTER_AREA)
                got = np.asarray(Image.open(io.BytesIO(out.stored)).convert("RGB"))[:, :, ::-1]
                error = ((got.astype(float) - wanted) ** 2).mean()
                values.append(10 * np.log10(255**2 / max(error, 1e-6)))
        low, median = np.percentile(values, (5, 50))
        print(f"| {side} px | {median:.1f} dB | {low:.1f} dB | {min(values):.1f} dB | {len(values)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--corpus", type=Path, help="folder of PNG and JPEG files to make collages of (default: drawn)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tamis-benchmark")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32, help="at a time, for both engines")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--latency-rows", type=int, default=5000)
    parser.add_argument("--latency-hosts", type=int, default=500)
    parser.add_argument("--latency-part", type=int, default=1000, help="samples of a part and of a shard")
    parser.add_argument("--latency-connections", type=int, default=1024)
    parser.add_argument("--psnr", action="store_true")
    parser.add_argument("--no-speed", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="run-", dir=arguments.work))
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}")
    try:
        if not arguments.no_speed:
            speed(arguments, root)
        if arguments.latency:
            latency(arguments, root)
        if arguments.psnr:
            fidelity(arguments)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
