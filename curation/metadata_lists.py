"""Lists of metadata entries: loading them, whatever form they come in, and writing them with their sources.

A list is a table (`ENTRIES`) whose row number is the entry's id: the ids of all languages are one range, so a count of
ids is a count for each entry of each language. The entries of a language stand together.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.file_digest import known_digest
from curation.table import replacing

ANY_LANGUAGE = "und"
"""BCP 47: undetermined. Entries of this language are for texts whose language has no entries of its own."""
ENTRIES = pa.schema(
    [
        pa.field("language", pa.string(), nullable=False),  # primary subtag of BCP 47, or `und`
        pa.field("entry", pa.string(), nullable=False),
        pa.field("source", pa.string()),  # name of one of the list's sources
        pa.field("count", pa.int64()),  # how often the source has it, in the source's own unit
    ]
)
FOOTER_KEY = b"tamis.metadata"
PACKAGED = Path(__file__).parent / "metadata"
_SUFFIXES = (".parquet", ".json", ".json.gz", ".txt", ".txt.gz")


@dataclass(frozen=True)
class Metadata:
    """A list of entries and what it was made from."""

    table: pa.Table
    """`ENTRIES`; the row number is the entry's id."""
    about: dict[str, Any]
    """`sources`: for each its name, version, licence, attribution and number of entries; empty for a plain list."""

    @cached_property
    def languages(self) -> dict[str, range]:
        """Language -> ids of its entries. Raises ValueError where the entries of a language do not stand together."""
        if not self.table.num_rows:
            return {}
        values = self.table.column("language").combine_chunks()
        changes = pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False).nonzero()[0] + 1
        begins = [0, *changes.tolist(), len(values)]
        names = [values[begin].as_py() for begin in begins[:-1]]
        if len(set(names)) != len(names):
            again = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the entries of language {again!r} do not stand together")
        return {name: range(begins[k], begins[k + 1]) for k, name in enumerate(names)}

    def entries(self, language: str | None = None) -> list[str]:
        """The entries of a language, or all, in the order of their ids."""
        ids = range(self.table.num_rows) if language is None else self.languages[language]
        found: list[str] = self.table.column("entry").slice(ids.start, len(ids)).to_pylist()
        return found


def find(name: str) -> Path:
    """The file or folder of a list: `name` is a path, or the name of a list of this package such as "worldwide".

    Raises FileNotFoundError naming those that there are.
    """
    if re.fullmatch(r"\w+", name):
        packaged = (PACKAGED / f"{name}{suffix}" for suffix in _SUFFIXES)
        found = next((path for path in packaged if path.is_file()), None)
        if found is not None:
            return found
    path = Path(name)
    if not path.exists():
        known = sorted(_stem(file) for file in PACKAGED.iterdir() if file.name.endswith((".parquet", ".txt.gz")))
        raise FileNotFoundError(f"no entry list {name!r}: neither a file or folder nor one of {', '.join(known)}")
    return path


def load_metadata(name: str) -> Metadata:
    """A list, from its file or the name of a packaged one:

    - Parquet, as `save` writes it: any number of languages;
    - a JSON array of strings, or one entry a line (UTF-8): for texts of any language;
    - a JSON object, language -> array of strings, or a folder of such lists named by their languages (`de.json`).

    gzip where the name ends in .gz. Raises FileNotFoundError, and ValueError where the file is no such list.
    """
    path = find(name)
    if path.suffix == ".parquet":
        return _from_parquet(path)
    if path.is_dir():
        files = {_stem(file): file for file in sorted(path.iterdir()) if file.name.endswith(_SUFFIXES[1:])}
        if not files:
            raise ValueError(f"{path} holds no lists ({', '.join(_SUFFIXES[1:])})")
        lists: dict[str, list[str]] = {}
        for language, file in files.items():
            entries = _plain(file)
            if not isinstance(entries, list):
                raise ValueError(f"{file} must be one list, that of the language {language!r}")
            lists[language] = entries
        return of_lists(lists)
    found = _plain(path)
    return of_lists(found if isinstance(found, dict) else {ANY_LANGUAGE: found})


def of_lists(lists: dict[str, list[str]]) -> Metadata:
    """Language -> entries as one list."""
    languages = [language for language, entries in lists.items() for _ in entries]
    entries = [entry for each in lists.values() for entry in each]
    columns = [pa.array(languages, pa.string()), pa.array(entries, pa.string())]
    columns += [pa.nulls(len(entries), field.type) for field in list(ENTRIES)[2:]]
    return Metadata(pa.table(columns, schema=ENTRIES), {"sources": []})


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _from_parquet(path: Path) -> Metadata:
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} is no list of entries: {error}") from error
    missing = [name for name in ENTRIES.names if name not in table.column_names]
    if missing:
        raise ValueError(f"{path} is no list of entries: it has no column {missing[0]!r}")
    about = json.loads((table.schema.metadata or {}).get(FOOTER_KEY, b'{"sources": []}'))
    return Metadata(table.select(ENTRIES.names).cast(ENTRIES), about)


def _plain(path: Path) -> list[str] | dict[str, list[str]]:
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        if Path(path.name.removesuffix(".gz")).suffix != ".json":
            return [line for line in text.split("\n") if line]
        found = json.loads(text)
    except (ValueError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} is no list of entries: {error}") from error
    lists = list(found.values()) if isinstance(found, dict) else [found]
    if not all(isinstance(each, list) and all(isinstance(entry, str) for entry in each) for each in lists):
        raise ValueError(f"{path} is neither a JSON array of strings nor an object of such arrays")
    return found  # type: ignore[no-any-return]


def save(metadata: Metadata, path: Path) -> None:
    """Write a list as Parquet; the same list gives the same bytes. What is already there is replaced."""
    about = json.dumps(metadata.about, sort_keys=True, ensure_ascii=False).encode()
    table = metadata.table.cast(ENTRIES).replace_schema_metadata({FOOTER_KEY: about})
    with replacing(path.absolute()) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=19,
            use_dictionary=["language", "source"],
            column_encoding={"entry": "DELTA_BYTE_ARRAY"},
            row_group_size=max(1, table.num_rows),
            write_statistics=False,
            write_page_checksum=True,
        )


def metadata_digest(name: str) -> str:
    """SHA-256 of what a list was loaded from, once per process and file."""
    path = find(name)
    if path.is_file():
        return known_digest(path)
    files = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES[1:]))
    digests = [f"{file.name}:{known_digest(file)}" for file in files]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def merged(languages: Sequence[str], lists: Sequence[tuple[str, str, Sequence[tuple[str, int | None]]]]) -> pa.Table:
    """`ENTRIES` of (language, source, [(entry, count)]): by language in the order given, each entry from the first
    source that has it, in that source's order."""
    columns: dict[str, list[Any]] = {name: [] for name in ENTRIES.names}
    for language in languages:
        seen: set[str] = set()
        for of_language, source, entries in lists:
            for entry, count in entries if of_language == language else ():
                if entry not in seen:
                    seen.add(entry)
                    for name, value in zip(ENTRIES.names, (language, entry, source, count), strict=True):
                        columns[name].append(value)
    return pa.table({name: pa.array(columns[name], ENTRIES.field(name).type) for name in ENTRIES.names}, ENTRIES)
