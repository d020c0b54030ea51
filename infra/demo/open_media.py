"""Open films and sounds from package registries, as people made and converted them: one content in many containers.

    python infra/demo/open_media.py OUT

`iscc-samples` (PyPI, through this Python's pip): one film in about twenty containers and one tune in ten. Debian's
`forensics-samples-files` (through apt-get): recordings in three or four formats each. Both tools ask whatever index
their user has set. What cannot be had is said and left out: the demo goes on without it. Nothing of the packages is
run or installed but what pip does to tell an archive's version.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from package import PackageError, data_member

ISCC = "iscc-samples==0.6.0 --hash=sha256:5714df1ecbc49df091042fabf2f96a9c99623eb442453598db26198c7d187d22"
FORENSICS = "forensics-samples-files"
TIMEOUT_S = 300
MAX_FILES, MAX_BYTES = 200, 50_000_000
"""Of one package, and of one of its files."""
TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".f4v": "video/mp4", ".mov": "video/quicktime", ".3gp": "video/3gpp",
    ".3g2": "video/3gpp2", ".mkv": "video/x-matroska", ".webm": "video/webm", ".avi": "video/x-msvideo",
    ".flv": "video/x-flv", ".swf": "application/x-shockwave-flash", ".asf": "video/x-ms-asf", ".wmv": "video/x-ms-wmv",
    ".mpg": "video/mpeg", ".mpeg": "video/mpeg", ".m1v": "video/mpeg", ".vob": "video/mpeg", ".ogv": "video/ogg",
    ".rm": "application/vnd.rn-realmedia", ".ogg": "audio/ogg", ".opus": "audio/ogg", ".mp3": "audio/mpeg",
    ".aac": "audio/aac", ".ac3": "audio/ac3", ".aif": "audio/aiff", ".wav": "audio/wav", ".wv": "audio/x-wavpack",
}  # fmt: skip
"""Endings of what is taken, formats that the allow lists refuse among them."""


def by_pip(folder: Path) -> str:
    """Download ISCC into `folder`; empty, or why not. pip checks the digest."""
    wanted = folder / "wanted.txt"
    wanted.write_text(ISCC + "\n", encoding="ascii")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return _run([*command, "--require-hashes", "--requirement", str(wanted), "--dest", str(folder)], folder)


def by_apt(folder: Path) -> str:
    """Download FORENSICS into `folder`; empty, or why not. apt checks what Debian signed."""
    if shutil.which("apt-get") is None:
        return "there is no apt-get"
    return _run(["apt-get", "download", FORENSICS], folder)


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT_S} s"
    return (done.stderr.strip().splitlines() or ["it failed without a word"])[-1] if done.returncode else ""


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The files of a source distribution or of a Debian package."""
    with path.open("rb") as file:
        if path.suffix == ".deb":
            with data_member(file) as member, tarfile.open(fileobj=member, mode="r|*") as tar:
                yield tar
        else:
            with tarfile.open(fileobj=file, mode="r|*") as tar:
                yield tar


def unpack(archive: Path, folder: Path) -> int:
    """Write the films and sounds of an archive below `folder`; returns how many. Names that lead elsewhere are none."""
    count = 0
    with _opened(archive) as tar:
        for entry in tar:
            path = PurePosixPath(entry.name)
            wanted = entry.isreg() and ".." not in path.parts and path.suffix.lower() in TYPES
            if not wanted or entry.size > MAX_BYTES or count == MAX_FILES:
                continue
            source: IO[bytes] | None = tar.extractfile(entry)
            assert source is not None
            target = folder.joinpath(*path.parts[-3:])
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            count += 1
    return count


SOURCES: dict[str, Callable[[Path], str]] = {"iscc-samples": by_pip, FORENSICS: by_apt}


def fetch(out: Path, sources: Iterable[str] = tuple(SOURCES)) -> dict[str, list[Path]]:
    """Package -> its films and sounds, below OUT/open; one that cannot be had is left out, and standard error says why.

    A folder that is there is whole, and not fetched again.
    """
    found = {}
    for name in sources:
        final = out / "open" / name
        if not final.is_dir():
            final.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".open-", dir=out) as work:
                why = _into(name, Path(work), final)
            if why:
                print(f"open media: without {name} ({why})", file=sys.stderr, flush=True)
                continue
        found[name] = sorted(path for path in final.rglob("*") if path.is_file())
    return found


def _into(name: str, work: Path, final: Path) -> str:
    why = SOURCES[name](work)
    archives = [path for path in work.iterdir() if path.suffix == ".deb" or path.name.endswith(".tar.gz")]
    if why or not archives:
        return why or "it brought no archive"
    tree = work / "tree"
    tree.mkdir()
    try:
        print(f"open media: {unpack(archives[0], tree)} files of {archives[0].name}", file=sys.stderr, flush=True)
    except (PackageError, tarfile.TarError, EOFError) as error:
        return f"{archives[0].name} cannot be read: {error}"
    tree.rename(final)
    return ""


def content_of(package: str, path: Path) -> str:
    """What a file shows, told by its name: files of one content have the same. `short.wav` and `demo.wav` differ; so
    do a film and a tune that are both called demo."""
    return f"{package}/{path.parent.name}/{path.stem}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Get open films and sounds from package registries.")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, files in fetch(args.out).items():
        print(f"{name}: {len(files)} files")


if __name__ == "__main__":
    main()
