"""URLs and the uids that come from them.

One parser (WHATWG, through `can_ada`) both checks a URL and writes the string that is fetched: two parsers that read
the same string differently are the classic way around a filter.
"""

import hashlib
import ipaddress
import re
from functools import lru_cache

import can_ada
from publicsuffixlist import PublicSuffixList

from curation.reasons import Reason

MAX_URL_CHARS = 2048  # before parsing; longer ones are traps or inlined data in practice
MAX_HOST_CHARS = 253  # RFC 1035, 2.3.4, without the root's dot
MAX_LABEL_CHARS = 63  # RFC 1035, 2.3.4

_UNUSABLE_PORT = re.compile(r"^\s*https?:[/\\]*[^/\\?#]*:(\d+)(?:[/\\?#]|\s*$)", re.IGNORECASE)


def canonical_url(url: str) -> tuple[str | None, str | None]:
    """The one spelling under which a link is fetched and known, or the reason why it is not usable.

    Returns (canonical, None) or (None, reason code `url.*`). Canonical is WHATWG's serialisation: scheme and host in
    lower case, an IPv4 address in any spelling (`0x7f.1`, `2130706433`, full-width digits) as four decimals, IDN in
    punycode, default port dropped, path and query percent-encoded, no fragment. `canonical_url` of a canonical URL is
    the URL itself. The parser drops tabs and line ends and white space around, as browsers do; it would keep user names
    and accept `data:`, so both are refused here. Nothing is looked up: whether the address may be connected to is
    decided where the socket is opened (`pipelines.addresses`).
    """
    if len(url) > MAX_URL_CHARS:
        return None, Reason.URL_TOO_LONG.value
    try:
        parsed = can_ada.parse(url)
    except (ValueError, TypeError):  # TypeError: a lone surrogate, which has no UTF-8
        return None, _why_unparsable(url)
    if parsed.protocol not in ("http:", "https:"):
        return None, Reason.URL_BAD_SCHEME.value
    if parsed.has_credentials():
        return None, Reason.URL_USERINFO.value
    host: str = parsed.hostname
    if not _is_usable_host(host):
        return None, Reason.URL_BAD_HOST.value
    if parsed.port == "0":
        return None, Reason.URL_BAD_PORT.value
    href: str = parsed.href
    return href.partition("#")[0], None


def uid(*parts: str) -> str:
    """A name made of content: 32 hex digits (BLAKE2b, 128 bits) over the parts, each preceded by its length.

    The uids of the project: a sample is `uid("sample", canonical URL)`, or the raw URL where it has no canonical form;
    a media item is `uid("media", ...)` over what names it (canonical URL, role, time range); a text is
    `uid("text", canonical or raw URL, raw text)`.
    Never a row number, so the same link has the same uid in every run. Lone surrogates are allowed.
    """
    whole = b""
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        whole += len(data).to_bytes(8, "little") + data
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def host_of(canonical: str) -> str:
    """Host of a canonical URL as it stands there, IPv6 in brackets."""
    authority = canonical.split("/", 3)[2]
    return authority if authority.endswith("]") else re.sub(r":\d+$", "", authority)


def origin_of(canonical: str) -> str:
    """Scheme, host and port of a canonical URL: `https://example.com`, `http://127.0.0.1:8071`."""
    return "/".join(canonical.split("/", 3)[:3])


@lru_cache(maxsize=1 << 16)
def registrable_domain(host: str) -> str:
    """The part of a host name that somebody can register: `images.example.co.uk` -> `example.co.uk`.

    By the public suffix list that the package `publicsuffixlist` carries (nothing is fetched), its private section
    included, so `a.github.io` and `b.github.io` are two. An IP address, a single label and a public suffix itself are
    returned as they are; a trailing dot is dropped.
    """
    name = host.rstrip(".").lower()
    if is_ip_literal(name):
        return name
    domain: str | None = _public_suffixes().privatesuffix(name)
    return domain or name


def is_ip_literal(host: str) -> bool:
    """Whether a canonical host is an address rather than a name (IPv6 with or without brackets)."""
    if host.startswith("[") or ":" in host:
        return True
    if not host[-1:].isdigit():
        return False
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1)
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=1 << 16)
def _is_usable_host(host: str) -> bool:
    if host.startswith("["):
        return True  # an IPv6 address that has been parsed
    name = host[:-1] if host.endswith(".") else host
    return 0 < len(name) <= MAX_HOST_CHARS and all(0 < len(label) <= MAX_LABEL_CHARS for label in name.split("."))


def _why_unparsable(url: str) -> str:
    port = _UNUSABLE_PORT.match(url)
    if port and int(port[1]) > 65535:
        return Reason.URL_BAD_PORT.value
    return Reason.URL_UNPARSABLE.value
