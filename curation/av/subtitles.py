"""Subtitles as timed texts: SRT and WebVTT files, and the packets of text tracks inside a container.

Sources: the SubRip format as its players read it (there is no standard); WebVTT (W3C, 2019); 3GPP TS 26.245 (mov_text);
the fields of an ASS event. Subtitles come from strangers: what cannot be read is left out and counted, nothing raises.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_CUES = 20_000
MAX_TEXT_CHARS = 2_000
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_RANGE = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(.*)$")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|</>|<\d[\d:.]{0,20}>|<[0-9.]{1,20}>")
_ASS_CODE = re.compile(r"\{[^{}]{0,500}\}")
_VTT_BLOCK = re.compile(r"^(NOTE|STYLE|REGION)(\s|$)")
_ASS_FIELDS_BEFORE_TEXT = 8  # as FFmpeg packs an event: ReadOrder, Layer, Style, Name, three margins, Effect


_LEGACY = {
    "cp1250": "cs ces cze sk slk slo pl pol hu hun hr hrv sl slv bs bos ro ron rum",
    "cp1251": "ru rus uk ukr be bel bg bul sr srp mk mkd mac kk kaz ky kir tt tat",
    "cp1253": "el ell gre",
    "cp1254": "tr tur az aze ku kur",
    "cp1255": "he heb iw",
    "cp1256": "ar ara fa fas per ur urd",
    "cp1257": "et est lv lav lt lit",
    "cp1258": "vi vie",
    "cp874": "th tha",
    "cp932": "ja jpn",
    "cp949": "ko kor",
    "gb18030": "zh zho chi",
}
"""Encoding of files that are not Unicode -> languages (ISO 639) of such files: the HTML standard's table of encodings
by locale (13.2.3.2), where it has ISO 8859 the code page of Windows for the same letters."""
_CODE_PAGE = {tag: encoding for encoding, tags in _LEGACY.items() for tag in tags.split()}
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_HEAD_BYTES = 4096


@dataclass(frozen=True, order=True)
class Cue:
    """A text that is shown from start_s to end_s (seconds, end after start). language: as the track claims it."""

    start_s: float
    end_s: float
    text: str
    language: str | None = None


def decoded(data: bytes, language: str | None = None) -> str:
    """Text of a file of subtitles or captions: UTF-8, UTF-16 or UTF-32 by its mark, UTF-16 by its zeros, else UTF-8
    where it is valid, else the code page that files in its language (as the name of the file says) were written in
    before, else Windows-1252."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    unmarked = _unmarked(data[:_HEAD_BYTES])
    if unmarked is not None:
        return data.decode(unmarked, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _of_code_page(data, language or "")


def _unmarked(head: bytes) -> str | None:
    """UTF-16 without a mark: its digits and line ends have a zero in every second byte, always on the same side."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 20 < len(head) or min(even, odd) * 4 > max(even, odd) or len(head) < 4:
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _of_code_page(data: bytes, language: str) -> str:
    primary, _, rest = language.lower().replace("_", "-").partition("-")
    is_traditional = primary in ("zh", "zho", "chi") and rest in ("tw", "hk", "hant")
    try:
        return data.decode("big5" if is_traditional else _CODE_PAGE.get(primary, "cp1252"))
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def parse(data: bytes | str, language: str | None = None) -> tuple[list[Cue], int]:
    """(cues in order of time, number of cues left out) of an SRT or WebVTT file.

    Left out: no text, an end not after its start, unreadable times. At most 20,000 cues.
    """
    text = decoded(data, language) if isinstance(data, bytes) else data
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").split("\n")
    is_vtt = bool(lines) and lines[0].lstrip("\ufeff").startswith("WEBVTT")
    cues: list[Cue] = []
    num_bad, at = 0, 0
    while at < len(lines) and len(cues) < MAX_CUES:
        line = lines[at]
        if is_vtt and _VTT_BLOCK.match(line):
            while at < len(lines) and lines[at].strip():
                at += 1
            continue
        found = _RANGE.match(line)
        at += 1
        if found is None:
            num_bad += "-->" in line
            continue
        words = []
        while at < len(lines) and (lines[at].strip() or not is_vtt) and not _RANGE.match(lines[at]):
            words.append(lines[at])  # in SRT an empty line may stand within a cue
            at += 1
        if at < len(lines) and _RANGE.match(lines[at]) and words and words[-1].strip().isdigit():
            words.pop()  # the number of the next cue
        cue = _cue(_seconds(found.groups()[:4]), _seconds(found.groups()[4:8]), "\n".join(words), language)
        if cue is None:
            num_bad += 1
        else:
            cues.append(cue)
    return sorted(cues), num_bad


def from_packets(packets: Iterable[Mapping[str, Any]]) -> tuple[list[Cue], int]:
    """As `parse`, of `curation.media.av_decode.AvDecoder.texts`. A cue without an end lasts until the next one."""
    rows = sorted(packets, key=lambda each: (each["stream"], each["start_s"]))
    cues: list[Cue] = []
    num_bad = 0
    for number, row in enumerate(rows):
        body = str(row["text"]).encode("latin-1", "replace")
        end_s = float(row["end_s"])
        following = rows[number + 1] if number + 1 < len(rows) else None
        if end_s <= row["start_s"] and following is not None and following["stream"] == row["stream"]:
            end_s = float(following["start_s"])
        language = row.get("language")
        cue = _cue(
            float(row["start_s"]), end_s, _packet_text(body, str(row["codec"])), None if language == "und" else language
        )
        if cue is None:
            num_bad += 1
        else:
            cues.append(cue)
    return sorted(cues), num_bad


def _packet_text(body: bytes, codec: str) -> str:
    if codec == "mov_text":
        size = int.from_bytes(body[:2], "big")
        return decoded(body[2 : 2 + size])
    text = decoded(body)
    if codec in ("ass", "ssa"):
        return text.split(",", _ASS_FIELDS_BEFORE_TEXT)[-1]
    return text


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = groups
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return (whole * 1000 + int((fraction or "0").ljust(3, "0"))) / 1000


def _cue(start_s: float, end_s: float, text: str, language: str | None) -> Cue | None:
    clean = plain(text)
    return Cue(start_s, end_s, clean, language) if clean and end_s > start_s >= 0 else None


def plain(text: str) -> str:
    """The words without mark-up: tags, ASS codes, character references; line ends and runs of white space are one
    space; at most 2,000 characters."""
    text = _ASS_CODE.sub(" ", text[: 4 * MAX_TEXT_CHARS]).replace("\\N", " ").replace("\\n", " ").replace("\\h", " ")
    text = html.unescape(_TAG.sub("", text))
    return " ".join(text.split())[:MAX_TEXT_CHARS]


def within(cues: Iterable[Cue], start_s: float, end_s: float, min_share: float = 0.5) -> list[Cue]:
    """The cues of a segment, with times from its start: those that lie in it with at least `min_share` of their time,
    so that each cue belongs to one of two neighbouring segments at most."""
    found = []
    for cue in cues:
        begin, end = max(cue.start_s, start_s), min(cue.end_s, end_s)
        share = (end - begin) / (cue.end_s - cue.start_s)
        if share > min_share or (share == min_share and begin == cue.start_s):
            found.append(Cue(begin - start_s, end - start_s, cue.text, cue.language))
    return found
