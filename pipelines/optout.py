"""What a response's headers say about using its body to train models.

Read here: `X-Robots-Tag`, TDMRep's `tdm-reservation` and AIPREF's `Content-Usage`. Files that speak for a whole host
(robots.txt, ai.txt, /.well-known/tdmrep.json) are read in `pipelines.site_rules`. Not legal advice.
"""

import datetime
import email.utils
import re
from collections.abc import Mapping, Sequence

from curation.reasons import Reason

RULES_VERSION = 1  # bump with every change of a verdict

# noai, noimageai: DeviantArt 2022, followed by most crawlers of pictures; noml: Mojeek; the others say that the page or
# picture is not to be indexed at all, which a corpus is.
OPT_OUTS = frozenset({"noai", "noimageai", "noml", "none", "noindex", "noimageindex"})
# Directives with a value, so that their colon does not make them a crawler's name.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_USER_AGENT = re.compile(r"[!#$%&'*+.^`|~\w-]+", re.ASCII)  # a token of RFC 9110, 5.6.2
_ZONES = {"PST": -8, "PDT": -7, "MST": -7, "MDT": -6, "CST": -6, "CDT": -5, "EST": -5, "EDT": -4}

Headers = Mapping[str, Sequence[str]]


def opt_out_reason(
    headers: Headers, user_agent_token: str = "tamis", now: datetime.datetime | None = None
) -> tuple[str, str] | None:
    """(reason code, the value that says no), or None where nothing in the headers objects.

    headers: lower-case name -> the values of all headers of that name.
    user_agent_token: the name under which a server may address this crawler alone, any case.
    now: for `unavailable_after`, with a time zone; the current time if None.
    """
    for value in headers.get("x-robots-tag", ()):
        if _x_robots_objects(value, user_agent_token.lower(), now or datetime.datetime.now(datetime.UTC)):
            return Reason.POLICY_X_ROBOTS.value, value
    for value in headers.get("tdm-reservation", ()):
        if value.strip() == "1":
            return Reason.POLICY_TDMREP.value, value
    for value in headers.get("content-usage", ()):
        if content_usage_objects(value):
            return Reason.POLICY_CONTENT_USAGE.value, value
    return None


def _x_robots_objects(value: str, token: str, now: datetime.datetime) -> bool:
    """One header: directives between commas; `name:` gives those after it to one crawler, until the next name.

    The date of `unavailable_after` may hold a comma itself, so the next piece is tried with it. Its tail is no name: it
    has blanks before its colon.
    """
    is_ours = True
    pieces = value.split(",")
    for index, piece in enumerate(pieces):
        directive = piece.strip().lower()
        name, colon, rest = directive.partition(":")
        name = name.strip()
        while colon and name not in _VALUED and _USER_AGENT.fullmatch(name):
            is_ours = name in ("*", token)
            directive = rest.strip()
            name, colon, rest = (part.strip() for part in directive.partition(":"))
        if not is_ours:
            continue
        if directive in OPT_OUTS:
            return True
        if name == "unavailable_after" and colon:
            until = _date(rest) or _date(",".join([rest, *pieces[index + 1 : index + 2]]))
            if until is not None and until <= now:
                return True
    return False


def _date(text: str) -> datetime.datetime | None:
    """A date as RFC 822, RFC 850 or ISO 8601 write it, in UTC if it names no zone; None if it is none of them."""
    text = text.strip()
    try:
        date = datetime.datetime.fromisoformat(text.upper())
    except ValueError:
        try:
            # RFC 850's dashes; the parser wants blanks
            date = email.utils.parsedate_to_datetime(re.sub(r"(\d)-([a-z]{3})-(\d)", r"\1 \2 \3", text))
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    if date.tzinfo is not None:
        return date
    hours = _ZONES.get(text.rsplit(" ", 1)[-1].upper(), 0)
    return date.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=hours)))


def content_usage_objects(value: str) -> bool:
    """`train-ai=n` in a structured dictionary such as `train-ai=n, search=y` (draft-ietf-aipref-attach-05).

    The last of several members of one name counts (RFC 8941, 3.2). Parameters after a semicolon do not change it.
    """
    verdict = ""
    for member in value.split(","):
        name, _, answer = member.partition(";")[0].partition("=")
        if name.strip().lower() == "train-ai":
            verdict = answer.strip().strip('"').lower()
    return verdict == "n"
