"""Get and unpack the Debian package with the demo's pictures: the Tux Paint stamps (GPL-2).

    python infra/demo/package.py OUT [--package FILE.deb]

`apt-get download` is asked first where apt is; else, and where apt has another version or no lists, Debian's own
archive. Whatever the source, the file must have the pinned SHA-256. It ends as the folder OUT/stamps, which is put in
place by one rename: a folder that exists is whole, and is not fetched again.

An own reader unpacks it rather than dpkg-deb, which a Mac lacks: the pinned digest means that there is exactly one file
to read, an `ar` archive whose data member is an xz-compressed tar.
"""

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

NAME = "tuxpaint-stamps-default"
VERSION = "2022.06.04-1"
FILE = f"{NAME}_{VERSION}_all.deb"
SHA256 = "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
SIZE_BYTES = 160_880_444
# Debian's public archive, the package's home.
ARCHIVE = f"https://deb.debian.org/debian/pool/main/t/tuxpaint-stamps/{FILE}"

FOLDER = "stamps"
"""Where it ends, below OUT. Another name than what earlier versions made of it, which left the sound effects out."""
STAMPS = PurePosixPath("usr/share/tuxpaint/stamps")
COPYRIGHT = PurePosixPath(f"usr/share/doc/{NAME}/copyright")
APT_TIMEOUT_S = 600
ARCHIVE_TIMEOUT_S = 60  # for one read, not for the whole
CHUNK_BYTES = 1 << 20


class PackageError(RuntimeError):
    """The package cannot be had or is not the pinned one; the message says what to do."""


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def from_apt(folder: Path) -> tuple[Path | None, str]:
    """Download with apt into `folder`; (the file, "") or (None, why not). No other version than the pinned is taken."""
    if shutil.which("apt-get") is None:
        return None, "there is no apt-get"
    command = ["apt-get", "download", f"{NAME}={VERSION}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=APT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"apt-get did not end within {APT_TIMEOUT_S} s"
    path = folder / FILE
    if done.returncode or not path.exists():
        return None, (done.stderr.strip().splitlines() or ["apt-get brought no file"])[-1]
    found = sha256_of(path)
    if found != SHA256:
        path.unlink()
        return None, f"apt-get brought a file with SHA-256 {found}"
    return path, ""


def from_archive(folder: Path, address: str = ARCHIVE) -> tuple[Path | None, str]:
    """Download from Debian's archive into `folder`; (the file, "") or (None, why not)."""
    path = folder / FILE
    digest, got, shown = hashlib.sha256(), 0, 0
    try:
        with urllib.request.urlopen(address, timeout=ARCHIVE_TIMEOUT_S) as answer, path.open("wb") as file:
            while block := answer.read(CHUNK_BYTES):
                got += len(block)
                if got > SIZE_BYTES:
                    return None, f"{address} is longer than the {SIZE_BYTES} bytes of the pinned file"
                digest.update(block)
                file.write(block)
                if got * 10 // SIZE_BYTES > shown:
                    shown = got * 10 // SIZE_BYTES
                    print(f"  {shown * 10} % of {SIZE_BYTES / 1e6:.0f} MB", file=sys.stderr, flush=True)
    except (urllib.error.URLError, OSError, ValueError) as error:
        return None, f"{address}: {error}"
    if digest.hexdigest() != SHA256:
        return None, f"{address} has SHA-256 {digest.hexdigest()}"
    return path, ""


def download(folder: Path) -> Path:
    """The pinned .deb in `folder`, from apt or else from the archive. Raises PackageError where neither has it."""
    print(f"getting {FILE} ({SIZE_BYTES / 1e6:.0f} MB)", file=sys.stderr, flush=True)
    path, why_not_apt = from_apt(folder)
    if path is None:
        print(f"  not with apt ({why_not_apt}); from Debian's archive", file=sys.stderr, flush=True)
        path, why_not_archive = from_archive(folder)
    if path is None:
        raise PackageError(
            f"cannot get {FILE}.\n  apt: {why_not_apt}\n  archive: {why_not_archive}\n"
            f"Without a network, bring the file from a machine that has one\n  ({ARCHIVE},\n  SHA-256 {SHA256})\n"
            f"and say --package {FILE}; or draw pictures instead with --synthetic 400."
        )
    return path


class _Member(io.RawIOBase):
    """The next `size` bytes of `file`, read-only, so that a decompressor stops at the member's end."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        block = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block


@contextmanager
def data_member(deb: IO[bytes]) -> Iterator[_Member]:
    """The `data.tar.*` member of an open .deb, as a file of its own. Format: deb(5), ar(5). Raises PackageError."""
    if deb.read(8) != b"!<arch>\n":
        raise PackageError("not a Debian package: it does not begin with an ar header")
    while header := deb.read(60):
        if len(header) < 60 or header[58:] != b"`\n":
            raise PackageError("the package is damaged: bad ar member header")
        name, size = header[:16].decode("ascii", "replace").rstrip(" /"), int(header[48:58])
        if name.startswith("data.tar"):
            yield _Member(deb, size)
            return
        deb.seek(size + size % 2, io.SEEK_CUR)  # members begin at even offsets
    raise PackageError("the package holds no data.tar member")


def wanted(path: PurePosixPath) -> bool:
    """Pictures, their captions, sounds and the licence; not the drawing hints."""
    return path == COPYRIGHT or (path.is_relative_to(STAMPS) and path.suffix in {".png", ".txt", ".ogg", ".wav"})


def unpack(deb: Path, folder: Path) -> int:
    """Write the wanted regular files of `deb` under `folder`, paths as in the package; returns how many."""
    count = 0
    with deb.open("rb") as file, data_member(file) as member, tarfile.open(fileobj=member, mode="r|*") as tar:
        for entry in tar:
            path = PurePosixPath(os.path.normpath(entry.name))
            if entry.isreg() and ".." not in path.parts and wanted(path):
                source = tar.extractfile(entry)
                if source is None:
                    raise PackageError(f"{entry.name} cannot be read from the package")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, CHUNK_BYTES)
                count += 1
    return count


def fetch(out: Path, package: Path | None = None) -> Path:
    """The folder OUT/stamps with the unpacked package, made where it is not there yet. Raises PackageError."""
    final = out / FOLDER
    if final.is_dir():
        return final
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".package-", dir=out) as name:
        work = Path(name)
        if package is None:
            deb = download(work)
        elif not package.is_file():
            raise PackageError(f"--package {package}: there is no such file")
        elif (found := sha256_of(package)) != SHA256:
            raise PackageError(f"--package {package}: SHA-256 is {found}, and {FILE} has {SHA256}")
        else:
            deb = package
        tree = work / "tree"
        tree.mkdir()
        print(f"unpacked {unpack(deb, tree)} files of {FILE}", file=sys.stderr, flush=True)
        try:
            tree.rename(final)
        except OSError:
            if not final.is_dir():  # not merely another process that was first
                raise
    return final


def main() -> None:
    parser = argparse.ArgumentParser(description="Get and unpack the Debian package with the demo's pictures.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--package", type=Path, help=f"a {FILE} that is already here")
    args = parser.parse_args()
    try:
        print(fetch(args.out, args.package))
    except PackageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
