"""What a store was asked to take down: links, domains and digests of bytes that never come back.

`takedown/links.txt` and `takedown/hashes.txt` of a store, in the form of deny lists, one entry a line. They outlive the
rows: a link table that names a picture again, another recipe or a refresh meets the same refusal. Taking out what is
there already is `pipelines.takedown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from curation.reasons import Reason
from curation.schema import MEDIA
from curation.table import replace_text
from curation.urls import canonical_url
from pipelines.deny import DenyList, denied_domain, denied_url

FOLDER = "takedown"
LINKS, HASHES = "links.txt", "hashes.txt"
KEPT = frozenset({"media_uid", "sample_uid", "role", "modality", "url", "source_uid"})
"""Columns of a medium that stay: which one it was, so that the accounts close and the entry still finds it."""
LOOKED_AT = ["media_uid", "url", "final_url", "sha256", "stored_sha256", "replaced_sha256", "reason"]
"""Columns that tell whether an entry means a medium."""
_HEADS = {
    LINKS: "# URLs, beginnings of URLs (with a * at the end) and domains that were taken down; see `tamis takedown`\n",
    HASHES: "# SHA-256 of bytes that were taken down; see `tamis takedown`\n",
}


@dataclass
class Takedowns:
    """The entries of one store. links: URLs, prefixes and domains; hashes: SHA-256 in lower-case hex."""

    links: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()
    _deny: DenyList = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        urls = [entry for entry in self.links if "://" in entry]
        self._deny = DenyList(domains=self.links.difference(urls), urls=urls)

    @classmethod
    def of(cls, root: Path) -> Self:
        """Those of the store at `root`; none where nothing was ever taken down."""
        return cls(_lines(root / FOLDER / LINKS), _lines(root / FOLDER / HASHES))

    def __bool__(self) -> bool:
        return bool(self.links or self.hashes)

    def saved_with(self, root: Path, links: Iterable[str], hashes: Iterable[str]) -> Self:
        """With further entries, which are on disk when this returns."""
        found = type(self)(self.links.union(links), self.hashes.union(hashes))
        for name, entries in ((LINKS, found.links), (HASHES, found.hashes)):
            if entries:
                replace_text(root / FOLDER / name, _HEADS[name] + "".join(f"{each}\n" for each in sorted(entries)))
        return found

    def entry_for_link(self, url: str | None) -> str | None:
        """The entry that a URL, in any spelling, falls under."""
        canonical = canonical_url(url)[0] if url is not None and self.links else None
        return None if canonical is None else self._deny.entry_for(canonical)

    def entry_for(self, row: Mapping[str, Any]) -> str | None:
        """The entry that a row of media falls under: by its link, the last URL asked, or its bytes now or before."""
        for name in ("sha256", "stored_sha256", "replaced_sha256"):
            if row[name] in self.hashes:
                return str(row[name])
        return self.entry_for_link(row["url"]) or self.entry_for_link(row["final_url"])

    def applied(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row of a medium, or what stays of it."""
        entry = self.entry_for(row) if self else None
        return row if entry is None else taken(row, entry)


def taken(row: Mapping[str, Any], entry: str) -> dict[str, Any]:
    """What stays of the row of a medium that the entry took down: no bytes, nothing that was learned from them."""
    kept = {name: row[name] for name in MEDIA.names if name in KEPT}
    found = {"status": "refused", "reason": Reason.POLICY_TAKEDOWN.value, "detail": entry[:200]}
    return {**dict.fromkeys(MEDIA.names), **kept, **found}


def parsed(entry: str) -> tuple[str | None, str | None]:
    """(link entry, None) or (None, SHA-256) of what somebody wrote. Raises ValueError where it is neither."""
    word = entry.strip()
    if len(word) >= 32 and all(ch in "0123456789abcdefABCDEF" for ch in word):
        if len(word) != 64:
            raise ValueError(f"{word!r} has {len(word)} hex digits, a SHA-256 has 64")
        return None, word.lower()
    return (denied_url(word) if "://" in word else denied_domain(word)), None


def _lines(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))
