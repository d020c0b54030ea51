"""What the files that speak for a whole origin say: robots.txt, ai.txt and /.well-known/tdmrep.json.

All of them are rules of paths for named crawlers, so one matcher (protego: groups, wildcards, the longest rule wins)
reads them all: what is no robots.txt is written as one first. Response headers are read in `pipelines.optout`. Not
legal advice.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping

from protego import Protego

from curation.reasons import Reason
from pipelines.optout import content_usage_objects

RULES_VERSION = 1  # bump with every change of a verdict
MAX_FILE_BYTES = 512 * 1024  # RFC 9309, 2.5, asks for at least 500 KiB; what comes after is not read

ROBOTS, AI, TDMREP = "robots.txt", "ai.txt", "tdmrep.json"
PATHS = {ROBOTS: "/robots.txt", AI: "/ai.txt", TDMREP: "/.well-known/tdmrep.json"}
"""Name -> where it lies, in the order in which they are asked for."""

# A directive's value: an optional path, then preferences (draft-ietf-aipref-attach-05, 3.2; contentsignals.org).
_VALUE = re.compile(r"\s*(?P<path>[/*]\S*)?\s*(?P<preferences>.*)")


class SiteRules:
    """The rules of one origin for one crawler.

    files: name -> content, None where the origin has no such file; a name that is not there is ignored by the recipe.
    token: the name of this crawler, as a robots.txt addresses it.
    """

    def __init__(self, files: Mapping[str, bytes | None], token: str) -> None:
        self._token = token
        self._state = {name: ("absent" if files[name] is None else "allow") if name in files else "ignored"
                       for name in PATHS}  # fmt: skip
        self._rules: list[tuple[str, Reason, Protego]] = []
        self.crawl_delay_s: float | None = None
        """Pause between two requests that robots.txt asks for, without a cap."""
        robots = _text(files.get(ROBOTS))
        if robots is not None:
            self._add(ROBOTS, Reason.POLICY_ROBOTS, robots)
            delay = self._rules[0][2].crawl_delay(token)
            self.crawl_delay_s = float(delay) if delay else None
            for reason, directive, objects in _PREFERENCES:
                if directive in robots.lower():
                    self._add(ROBOTS, reason, _as_rules(robots.splitlines(), directive, objects))
        ai = _text(files.get(AI))
        if ai is not None:
            self._add(AI, Reason.POLICY_AI_TXT, ai)
        tdmrep = files.get(TDMREP)
        if tdmrep is not None:
            self._add(TDMREP, Reason.POLICY_TDMREP, _tdmrep_as_rules(tdmrep))

    def _add(self, name: str, reason: Reason, text: str) -> None:
        self._rules.append((name, reason, Protego.parse(text)))

    def objection(self, url: str) -> tuple[Reason, str] | None:
        """(reason code, the file that says no), or None where nothing objects to a GET of the canonical URL."""
        for name, reason, rules in self._rules:
            if not rules.can_fetch(url, self._token):
                return reason, name
        return None

    def consent(self, objecting: str | None = None) -> str:
        """Each file and what it said (allow, deny, absent, ignored), for a row's record; with the rules' version."""
        said = self._state if objecting is None else {**self._state, objecting: "deny"}
        return "; ".join([*(f"{name}={word}" for name, word in said.items()), f"rules={RULES_VERSION}"])


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8-sig", "replace")


def _as_rules(lines: Iterable[str], directive: str, objects: Callable[[str], bool]) -> str:
    """A robots.txt whose rules are one directive of another: disallowed is what it objects to, allowed what it allows.

    Other directives stay as unknown ones: they end a group's list of names. A line before any name is everyone's.
    """
    out = ["User-agent: *", "Other: x"]
    for line in lines:
        name, colon, value = line.partition("#")[0].partition(":")
        name = name.strip().lower()
        if not colon:
            continue
        if name == directive and (match := _VALUE.fullmatch(value)):
            verdict = "Disallow" if objects(match["preferences"]) else "Allow"
            out.append(f"{verdict}: {match['path'] or '/'}")
        elif name in ("user-agent", "useragent"):
            out.append(f"User-agent: {value}")
        else:
            out.append("Other: x")
    return "\n".join(out)


def _signal_objects(preferences: str) -> bool:
    """`ai-train=no` among comma-separated signals, the last one of that name counting."""
    verdict = ""
    for member in preferences.split(","):
        name, _, answer = member.partition("=")
        if name.strip().lower() == "ai-train":
            verdict = answer.strip().lower()
    return verdict == "no"


def _tdmrep_as_rules(content: bytes) -> str:
    """W3C TDMRep's list of {location, tdm-reservation} as a robots.txt; what is not such a list says nothing."""
    try:
        rules = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    out = ["User-agent: *"]
    for rule in rules if isinstance(rules, list) else [rules]:
        if not isinstance(rule, dict) or str(rule.get("tdm-reservation", "")).strip() not in ("0", "1"):
            continue
        location = "".join(ch for ch in str(rule.get("location") or "/") if ch.isprintable()).strip()
        if not location.startswith(("/", "*")):
            location = "/" + location
        verdict = "Disallow" if str(rule["tdm-reservation"]).strip() == "1" else "Allow"
        out.append(f"{verdict}: {location.replace('#', '%23')}")
    return "\n".join(out)


_PREFERENCES = (
    (Reason.POLICY_CONTENT_SIGNAL, "content-signal", _signal_objects),
    (Reason.POLICY_CONTENT_USAGE, "content-usage", content_usage_objects),
)
