"""Deny lists: domains and URLs that are never asked for, and hashes of content that is never kept.

One entry a line; blank lines and what follows `#` are left out. What the lists hold is the operator's business.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from curation.urls import canonical_url, host_of
from pipelines.fetched import Fetched

_ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256"}  # by number of hex digits


def denied_domain(entry: str) -> str:
    """A domain as canonical URLs spell it. Raises ValueError where it is none."""
    canonical, reason = canonical_url(f"http://{entry.strip().removeprefix('*.').strip('.')}/")
    if canonical is None or canonical.count("/") != 3:
        raise ValueError(f"{entry!r} is no domain ({reason or 'it holds a path'})")
    return host_of(canonical)


def denied_url(entry: str) -> str:
    """A URL in canonical form, or with a `*` at its end the beginning of URLs. Raises ValueError where it is none."""
    is_prefix = entry.strip().endswith("*")
    canonical, reason = canonical_url(entry.strip().removesuffix("*"))
    if canonical is None:
        raise ValueError(f"{entry!r} is no URL ({reason})")
    return canonical + "*" * is_prefix


class DenyList:
    """Domains with all their subdomains, URLs, and URL prefixes (`https://example.com/private/*`).

    files: lists of both kinds; an entry with `://` is a URL. Raises ValueError naming the file and line of an entry
    that is neither, OSError where a file cannot be read.
    """

    def __init__(self, domains: Iterable[str] = (), urls: Iterable[str] = (), files: Iterable[Path] = ()) -> None:
        self._domains = {denied_domain(entry) for entry in domains}
        found = {denied_url(entry) for entry in urls}
        for path in files:
            for number, entry in _entries(path):
                try:
                    if "://" in entry:
                        found.add(denied_url(entry))
                    else:
                        self._domains.add(denied_domain(entry))
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from None
        self._urls = {entry for entry in found if not entry.endswith("*")}
        self._prefixes = tuple(sorted(entry[:-1] for entry in found if entry.endswith("*")))

    def entry_for(self, canonical: str) -> str | None:
        """The entry that denies a canonical URL, None if none does."""
        if canonical in self._urls:
            return canonical
        if self._prefixes and canonical.startswith(self._prefixes):
            return next(f"{prefix}*" for prefix in self._prefixes if canonical.startswith(prefix))
        host = host_of(canonical).rstrip(".") if self._domains else ""
        while host:
            if host in self._domains:
                return host
            host = host.partition(".")[2]
        return None


class HashList:
    """MD5, SHA-1 or SHA-256 digests in hex, told apart by their length; a hook for lists that an operator may hold.

    Raises ValueError naming the file and line of an entry that is none, OSError where a file cannot be read.
    """

    def __init__(self, files: Iterable[Path] = ()) -> None:
        self._digests: dict[str, set[bytes]] = {}
        for path in files:
            for number, entry in _entries(path):
                algorithm = _ALGORITHMS.get(len(entry))
                try:
                    digest = bytes.fromhex(entry)
                except ValueError:
                    algorithm = None
                if algorithm is None:
                    raise ValueError(f"{path}, line {number}: {entry[:80]!r} is no MD5, SHA-1 or SHA-256 in hex")
                self._digests.setdefault(algorithm, set()).add(digest)

    def algorithm_that_knows(self, fetched: Fetched) -> str | None:
        """`md5`, `sha1` or `sha256` where the list holds that digest of the body, else None."""
        for algorithm, digests in self._digests.items():
            if fetched.digest(algorithm) in digests:
                return algorithm
        return None


def expected_digest_differs(fetched: Fetched, expected: str) -> str | None:
    """The algorithm by which the body differs from a promised MD5 or SHA-256 (hex), None if it does not.

    Raises ValueError where `expected` is neither.
    """
    algorithm = _ALGORITHMS.get(len(expected), "")
    if algorithm not in ("md5", "sha256"):
        raise ValueError(f"{expected!r} is neither an MD5 nor a SHA-256 in hex")
    return None if fetched.digest(algorithm).hex() == expected.lower() else algorithm


def _entries(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            entry = line.partition(" #")[0].strip()
            if entry and not entry.startswith("#"):
                yield number, entry
