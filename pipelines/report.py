"""The report: one HTML page about a store that asks nothing of the network and runs nothing.

All that it shows of a crawl is hostile until proven otherwise. Every value is escaped by the template engine; control
and direction characters are shown by their numbers; URLs are text, without query strings (which may hold secrets);
pictures are small copies made from pixels that a limited child process decoded; the page's own policy forbids scripts,
forms, anything from outside, and styles other than its own.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from curation.table import replace_text
from pipelines import report_pictures as pictures
from pipelines import report_runs, report_segments, report_tables
from pipelines.store import Store
from pipelines.views import open_store

TEMPLATE = "report_template.html"
OF_SEGMENTS = "report_segments.html"
"""The part of the page that only stores of video and audio have."""
MAX_TEXT = 160
"""Characters of a caption that are shown."""
MAX_URL = 90
JOINERS = "\u200c\u200d"
"""Format characters that scripts and emoji need and that move nothing but their neighbours."""
KINDS = {
    "sha256": "same bytes",
    "pixel_hash": "same pixels",
    "picture (same)": "near copy",
    "picture (crop)": "crop",
    "picture (crowd, caption)": "near copy of many, same caption",
    "picture (mirror)": "mirrored",
}


def write_report(store: Store, output: Path | None = None) -> Path:
    """Write the page, by default to STORE/report/index.html, and return its path. The same store gives the same page.

    A store with nothing but links gives a short page: sections without content are left out.
    """
    path = (output or store.root / "report" / "index.html").absolute()
    replace_text(path, render(facts(store)))
    return path


def facts(store: Store) -> dict[str, Any]:
    """All that the template shows."""
    state = store.state()
    con = open_store(store, state, locked=True)
    found = report_tables.packed(con, store, state)
    policy = found.policy if found else []
    rules = report_tables.rules(con, policy)
    kept = pictures.kept_samples(con)
    rejected = pictures.rejected_samples(con, [row["rule"] for row in rules])
    segments = report_segments.sections(con, state, rejected)
    if segments:  # shown as strips and spectrograms instead
        kept, rejected = [], []
    strips = pictures.duplicate_strips(con)
    members = [row for group in strips for row in group["members"]]
    shown = [*kept, *(row for _, rows in rejected for row in rows), *members]
    content = {
        "recipe": state.recipe,
        "round": state.policy_name,
        "version": found.manifest if found else None,
        "is_current": bool(policy),
        "pool": report_tables.pool(con),
        "funnel": report_tables.funnel(con),
        "failures": report_tables.failures(con),
        "rules": rules,
        "languages": report_tables.languages(con),
        "domains": report_tables.domains(con),
        "duplicates": report_tables.duplicates(con),
        "strips": strips,
        "kept": kept,
        "rejected": rejected,
        "segments": segments,
        "thumbnails": pictures.thumbnails(con, (row["media_uid"] for row in shown)),
        "scores": report_tables.scores(con, policy),
        "balance": report_tables.balance(con, found),
        "models": report_runs.models(store),
        "runs": report_runs.runs(con),
        "commands": report_runs.commands(store),
        "kinds": KINDS,
    }
    con.close()
    return content


def render(content: dict[str, Any]) -> str:
    """The page. Its styles are allowed by their digest, so nothing that slips in could bring its own."""
    sources = {
        name: resources.files("pipelines").joinpath(name).read_text(encoding="utf-8")
        for name in (TEMPLATE, OF_SEGMENTS)
    }
    source = sources[TEMPLATE]
    style = source.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {
        "number": number, "share": share, "visible": visible, "breakable": breakable, "address": address,
        "seconds": seconds, "size": size,
    }  # fmt: skip
    return environment.get_template(TEMPLATE).render(**content, style_digest=digest)


def visible(value: object, most: int = MAX_TEXT) -> Markup:
    """Text cut to `most` characters, escaped, with control, format and private characters as their code points."""
    text = str(value)
    pieces = []
    for char in text[:most]:
        if char in JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp"):
            pieces.append(escape(char))
        else:
            pieces.append(Markup('<span class="code-point">U+{:04X}</span>').format(ord(char)))
    if len(text) > most:
        pieces.append(Markup("…"))
    return Markup("").join(pieces)


def breakable(name: str) -> Markup:
    """A column's or rule's name that may be broken after its underscores."""
    return Markup("_<wbr>").join(visible(part) for part in name.split("_"))


def address(url: str | None) -> Markup:
    """A URL as text: host and path; user names, query and fragment are left out, for they may hold secrets."""
    if url is None:
        return Markup("")
    try:
        parts = urlsplit(url)
    except ValueError:  # such as http://[ : whatever stands before the first mark of a query
        return visible(url.partition("?")[0].rpartition("@")[2], MAX_URL)
    host = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{host}{parts.path}" if host else parts.path
    return visible(shown + ("?…" if parts.query else ""), MAX_URL)


def number(value: float) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def share(value: float, digits: int = 1) -> str:
    """0.5744 as 57.4%."""
    return f"{100 * value:.{digits}f}%"


def seconds(value: float | None) -> str:
    """43.1 as 43.1 s, 754 as 12 min 34 s."""
    if value is None:
        return ""
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: float) -> str:
    """22647390 as 22.6 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
