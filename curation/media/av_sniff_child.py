"""What the first bytes of a video or audio file say, read without any decoder.

Loaded as a file by `av_child.py`; standard library only. The demuxer is forced to what is found here, so that FFmpeg
never guesses: among its 350 demuxers are playlists (HLS, DASH, concat) that open other files and addresses.
"""

# First bytes -> FFmpeg's demuxer.
_MAGIC = (
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"OggS", "ogg"),
    (b"FLV\x01", "flv"),
    (b"fLaC", "flac"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
)
_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # ISO/IEC 14496-12; QuickTime File Format
_PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
_REFERRING = (b"#extm3u", b"<mpd", b"ffconcat", b"[playlist]", b"v=0", b"<asx", b"<smil", b"[reference]", b"rtsptext")
_TS_PACKETS = (188, 192)  # MPEG-TS, and with a time stamp before each packet (M2TS)
_MIN_AUDIO_SYNCS = 2  # consecutive frame headers that make a bare MPEG or ADTS stream
HEAD_BYTES = 1 << 16

# MPEG-1 Audio (ISO/IEC 11172-3, 2.4.2.3): kbit/s by layer III, II, I; MPEG-2 low rates (13818-3) below.
_KBITS_1 = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
)
_KBITS_2 = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
)
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def sniff(head: bytes) -> tuple[str | None, bool]:
    """(demuxer, whether it refers to something outside itself) by the first 64 kB; (None, ...) where it is neither
    video nor audio of a known kind."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name, False
    if head[:4] in (b"RIFF", b"RF64"):
        return {b"AVI ": "avi", b"WAVE": "wav"}.get(head[8:12]), False
    if head[4:8] in _MOV_BOXES:
        is_picture = head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS
        return None if is_picture else "mov", False
    if _is_transport_stream(head):
        return "mpegts", False
    audio = _bare_audio(head)
    if audio is not None:
        return audio, False
    text = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    refers = text.startswith(_REFERRING) or (text.startswith(b"<?xml") and (b"<mpd" in text or b"<smil" in text))
    return None, refers


def _is_transport_stream(head: bytes) -> bool:
    for size in _TS_PACKETS:
        first = size - 188
        if len(head) > first + 2 * size and all(head[first + k * size] == 0x47 for k in range(3)):
            return True
    return False


def _bare_audio(head: bytes) -> str | None:
    """mp3 or aac, perhaps behind an ID3 tag; by several frame headers in a row, for two bytes prove nothing."""
    at = tag_bytes(head)
    if at:
        if at >= len(head):
            return "mp3"  # a tag longer than the head (a picture in it): MP3 by far most often; else decoding fails
        if head[at : at + 4] == b"fLaC":
            return "flac"
    for name, length in (("mp3", _mpeg_frame_bytes), ("aac", _adts_frame_bytes)):
        place, found = at, 0
        while found < _MIN_AUDIO_SYNCS:
            step = length(head[place : place + 7])
            if step is None:
                break
            place, found = place + step, found + 1
        if found >= _MIN_AUDIO_SYNCS:
            return name
    return None


def tag_bytes(head: bytes) -> int:
    """Length of the ID3 tag in front; 0 without one."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F  # ID3v2.4, 6.2: synchsafe
    return 10 + size


def tells_length(name: str, first_frame: bytes) -> bool:
    """Whether a bare stream of audio tells how long it is; otherwise FFmpeg guesses by the rate of its first frames,
    which is several times off where it begins with silence. In MP3 by Xing's, LAME's or Fraunhofer's header."""
    if name == "aac":
        return False
    for mark in (b"Xing", b"Info"):
        at = first_frame.find(mark)
        if at >= 0 and len(first_frame) >= at + 8:
            return bool(first_frame[at + 7] & 1)  # it has the number of frames
    return name != "mp3" or b"VBRI" in first_frame


def _mpeg_frame_bytes(header: bytes) -> int | None:
    """Length of the MPEG audio frame that begins with `header`; None if none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3  # layer: 3 I, 2 II, 1 III
    bits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 0 or bits in (0, 15) or rate == 3:
        return None
    kbits = (_KBITS_1 if version == 3 else _KBITS_2)[layer - 1][bits]
    hertz, padding = _RATES_HZ[version][rate], header[2] >> 1 & 1
    if layer == 3:
        return (12_000 * kbits // hertz + padding) * 4
    samples_by_8 = 72 if version != 3 and layer == 1 else 144
    return samples_by_8 * 1000 * kbits // hertz + padding


def _adts_frame_bytes(header: bytes) -> int | None:
    """Length of the ADTS frame (ISO/IEC 13818-7, 6.2) that begins with `header`; None if none does."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return None
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > 7 else None
