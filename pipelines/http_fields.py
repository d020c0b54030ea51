"""Reading the two response fields that decide what is asked for next: `Location` and `Retry-After`."""

import contextlib
import datetime
import email.utils
from urllib.parse import urljoin

from curation.urls import canonical_url


def redirect_target(base: str, location: str) -> tuple[str | None, str]:
    """(canonical URL, "") of a Location against the canonical URL that sent it, or (None, why it may not be followed).

    location: as the header has it, bytes as Latin-1. Only the joining is the standard library's; what comes out is
    parsed and checked as every link is. A hop from https to http is not followed.
    """
    with contextlib.suppress(UnicodeDecodeError):  # some other 8-bit encoding: taken as Latin-1
        location = location.encode("latin-1").decode()  # UTF-8 in practice, where it is not ASCII
    try:
        joined = urljoin(base, location.strip())
    except ValueError:  # a bracket that closes no IPv6 address
        return None, f"url.unparsable: {location}"
    target, reason = canonical_url(joined)
    if target is None:
        return None, f"{reason}: {location}"
    if base.startswith("https:") and not target.startswith("https:"):
        return None, f"https to http: {target}"
    return target, ""


def retry_after_s(value: str | None) -> float | None:
    """Seconds to wait, from a number or an HTTP date (RFC 9110, 10.2.3); None if absent or neither. Not negative."""
    if value is None:
        return None
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=datetime.UTC)
    return max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())
