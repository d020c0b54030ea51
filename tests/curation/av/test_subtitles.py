from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.av.subtitles import Cue, decoded, from_packets, parse, plain, within
from curation.media.av_decode import AvDecoder
from tests.curation.av import media

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there,
  you!

2
00:00:03,000 --> 00:00:02,000
backwards

3
00:01:00,5 --> 00:01:02
{\\an8}Tom &amp; Jerry
4
00:01:03,000 --> 00:01:04,000 X1:0 X2:5
no empty line before

5
00:01:05,000 --> 00:01:06,000
<b></b>
"""
VTT = """WEBVTT - a title

NOTE a comment
00:00:00.000 --> 00:00:09.000

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Roger>Hello<00:00:01.500><c.loud> there</c>, you!

100:00:00.000 --> 100:00:01.000
late
"""


def test_srt() -> None:
    cues, num_bad = parse(SRT.encode(), "en")
    assert cues == [
        Cue(1.0, 2.5, "Hello there, you!", "en"),
        Cue(60.5, 62.0, "Tom & Jerry", "en"),
        Cue(63.0, 64.0, "no empty line before", "en"),
    ]
    assert num_bad == 2


def test_vtt() -> None:
    cues, num_bad = parse(VTT)
    assert cues == [Cue(1.0, 2.5, "Hello there, you!"), Cue(360_000.0, 360_001.0, "late")]
    assert num_bad == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding: str, newline: str) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nd\xe9j\xe0 vu\n".replace("\n", newline)
    assert parse(text.encode(encoding)) == ([Cue(1.0, 2.0, "d\xe9j\xe0 vu")], 0)


@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda t: t.encode("utf-8", "replace")))
def test_anything_can_be_read(data: bytes) -> None:
    cues, num_bad = parse(b"WEBVTT\n\n00:01.000 --> 00:02.000\n" + data)
    assert all(cue.text and cue.end_s > cue.start_s >= 0 for cue in cues)
    assert num_bad >= 0


CUES = st.lists(
    st.tuples(
        st.integers(0, 10_000), st.integers(1, 5_000), st.from_regex(r"[a-z]{1,8}( [a-z]{1,8}){0,3}", fullmatch=True)
    ),
    max_size=10,
).map(lambda rows: sorted(Cue(a / 1000, (a + n) / 1000, text) for a, n, text in rows))


def _stamp(seconds: float, comma: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, minutes = milliseconds // 3_600_000, milliseconds // 60_000 % 60
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000 % 60:02}{comma}{milliseconds % 1000:03}"


@given(CUES, st.sampled_from([",", "."]))
def test_what_is_written_is_read(cues: list[Cue], comma: str) -> None:
    body = "".join(
        f"{k}\n{_stamp(c.start_s, comma)} --> {_stamp(c.end_s, comma)}\n{c.text}\n\n" for k, c in enumerate(cues)
    )
    assert parse(("WEBVTT\n\n" if comma == "." else "") + body) == (cues, 0)


@given(CUES, st.integers(0, 15_000))
def test_each_cue_belongs_to_one_neighbour_at_most(cues: list[Cue], cut: int) -> None:
    left, right = within(cues, 0.0, cut / 1000), within(cues, cut / 1000, 15.0)
    assert len(left) + len(right) == len(cues)
    assert all(0 <= cue.start_s < cue.end_s for cue in left + right)


def test_mark_up_goes() -> None:
    assert plain("a < b, 1<2 <i>x</i> &lt;tag&gt; {\\i1}y\\Nz") == "a < b, 1<2 x <tag> y z"
    assert len(plain("w " * 9_000)) <= 2_000


def test_an_empty_line_within_a_cue_ends_nothing() -> None:
    """SRT as players read it: a cue ends where the next one's number and times stand."""
    text = "1\n00:00:01,000 --> 00:00:02,000\nfirst\n\nsecond\n \n1984\n\n2\n00:00:03,000 --> 00:00:04,000\n42\n"
    assert [cue.text for cue in parse(text)[0]] == ["first second 1984", "42"]
    unnumbered = "00:00:01,000 --> 00:00:02,000\n1984\n\n00:00:03,000 --> 00:00:04,000\n42\n"
    assert [cue.text for cue in parse(unnumbered)[0]] == ["1984", "42"]
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\nfirst\n\nNOTE not said\n\nid\n00:03.000 --> 00:04.000\nsecond\n"
    assert [cue.text for cue in parse(vtt)[0]] == ["first", "second"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32"])
def test_wide_files_without_a_mark_are_read(encoding: str) -> None:
    """Cyrillic in UTF-16 is valid ASCII, control characters and all."""
    text = "1\n00:00:01,000 --> 00:00:02,000\nпривет, мир\n"
    assert [cue.text for cue in parse(text.encode(encoding), "ru")[0]] == ["привет, мир"]
    assert decoded(b"plain\0text with one zero in it") == "plain\0text with one zero in it"


@pytest.mark.parametrize(("container", "codec"), [("mp4", "mov_text"), ("matroska", "subrip"), ("matroska", "ass")])
def test_embedded(container: str, codec: str) -> None:
    """Text tracks inside a film; the packets are made by hand, as a muxer takes them."""
    wanted = [Cue(0.2, 0.9, "Hello there"), Cue(1.0, 1.8, "d\xe9j\xe0 vu")]
    sink = io.BytesIO()
    with av.open(io.BytesIO(media.small("mp4"))) as source, av.open(sink, "w", format=container) as out:
        video = out.add_stream_from_template(source.streams.video[0])
        text = out.add_stream(codec)
        text.time_base = Fraction(1, 1000)
        text.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n"  # type: ignore[attr-defined]
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        for number, cue in enumerate(wanted):
            body = cue.text.encode()
            if codec == "mov_text":
                body = len(body).to_bytes(2, "big") + body
            elif codec == "ass":
                body = f"{number},0,Default,,0,0,0,,".encode() + body
            packet = av.Packet(body)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = round(cue.start_s * 1000)
            packet.duration = round((cue.end_s - cue.start_s) * 1000)
            out.mux(packet)
    with AvDecoder() as decoder:
        outcome, packets = decoder.texts(sink.getvalue())
        assert outcome.reason is None
        cues, num_bad = from_packets(packets)
    assert num_bad == 0 or codec == "mov_text"  # MP4 fills gaps with empty texts
    assert [(round(c.start_s, 2), round(c.end_s, 2), c.text) for c in cues] == [
        (c.start_s, c.end_s, c.text) for c in wanted
    ]


@pytest.mark.parametrize(
    ("words", "encoding", "language"),
    [
        ("Где ты был вчера вечером?", "cp1251", "ru"),
        ("Где ты был вчера вечером?", "cp1251", "rus"),
        ("Žluťoučký kůň úpěl", "cp1250", "cs-CZ"),
        ("Πού ήσουν χθες το βράδυ", "cp1253", "el"),
        ("昨日の夜はどこにいたの", "cp932", "ja"),
        ("昨天晚上你在哪里", "gb18030", "zh"),
        ("昨天晚上你在哪裡", "big5", "zh-TW"),
        ("Où étais-tu hier soir ?", "cp1252", "fr"),
        ("Où étais-tu hier soir ?", "cp1252", None),
        ("Где ты был вчера вечером?", "utf-8", "fr"),
        ("Où étais-tu hier soir ?", "utf-16", "ru"),
    ],
)
def test_files_that_are_not_unicode_are_read_by_their_language(words: str, encoding: str, language: str | None) -> None:
    file = f"1\r\n00:00:01,000 --> 00:00:02,000\r\n{words}\r\n"
    assert parse(file.encode(encoding), language) == ([Cue(1.0, 2.0, words, language)], 0)


def test_bytes_of_no_code_page_are_read_as_well_as_can_be() -> None:
    """0x81 followed by 0x20 is no character of Shift JIS."""
    (cue,), _ = parse(b"00:00:01,000 --> 00:00:02,000\nab\x81 cd\n", "ja")
    assert cue.text == "ab\ufffd cd"
