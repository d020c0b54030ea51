"""An outage: a run that reached (nearly) nothing of what it asked for.

One link that cannot be reached is a value in its row; all of them are something that an operator has to hear of. The
run is carried to its end, so that the store is whole and says of each link why it is not there; then it ends red. The
state remembers it, and the next run asks for these links again without being told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from curation.reasons import Reason, ReasonClass, reason_class
from curation.table import Part, open_part
from pipelines.download import media_parts
from pipelines.stage import Run

NEVER_ASKED = frozenset(
    {Reason.POLICY_DOMAIN_DENIED, Reason.POLICY_TAKEDOWN, Reason.NET_BLOCKED_ADDRESS, Reason.NET_BLOCKED_PORT}
    | {reason for reason in Reason if reason.stage in ("in", "url")}
)
"""Reasons for which no request is made: they say nothing about the network."""
REASONS_SHOWN = 3


class Outage(RuntimeError):
    """Nearly every link of a run failed on the way to its host. The store is whole."""


def is_unreached(reason: str | None) -> bool:
    """Whether a row that ended so may be an outage's doing: all that may pass, and names that do not exist, for so says
    many a resolver that has lost its own network."""
    return reason is not None and (
        reason_class(reason) is ReasonClass.TRANSIENT or reason == Reason.NET_DNS_NXDOMAIN
    )  # fmt: skip


def watched(run: Run, download: Callable[[Run], dict[str, Any]]) -> dict[str, Any]:
    """Do the stage, and note in `run.outage` and in the state whether it was an outage; returns its counts.

    Judged are links that were asked for the first time, and those that a refresh asked for. Links that are tried again
    have failed before, hosts that are dead for good among them: they count only after an outage, and where nothing else
    does.
    """
    known = run.state.tables.get("sources", run.state.tables.get("media", []))
    after_outage = run.state.outage
    counts = download(run)
    asked, reasons = _asked_for_first(_new_parts(run, known, counts))
    asked += counts.get("rows_refreshed", 0)
    unreached = sum(reasons.values()) + counts.get("rows_not_reached", 0)
    least, share = run.recipe.download.outage_links, run.recipe.download.outage_share
    if after_outage and asked < least:
        asked += counts.get("rows_retried", 0)
        unreached += counts.get("rows_failed_again", 0)
    run.state.outage = least > 0 and asked >= least and unreached >= share * asked
    if run.state.outage:
        run.outage = _message(asked, unreached, reasons)
        run.say(f"  warning: {run.outage}")
    return counts


def end_where_nothing_is_there(run: Run) -> None:
    """Raises Outage where there was one and the store has no medium at all: the stages to come would fail of that."""
    if run.outage and not any(part.stats["status"].get("ok") for part in media_parts(run)):
        raise Outage(run.outage)


def end(run: Run) -> None:
    """At the end of a run: raises Outage where there was one."""
    if run.outage:
        raise Outage(run.outage)


def _new_parts(run: Run, known: list[str], counts: dict[str, Any]) -> list[Part]:
    """The parts of media that the last download stage that ended did not have. Where parts were tried again, those that
    took the place of others are not new; a changed setting makes all of them new."""
    has_successors = bool(counts.get("parts_retried") or counts.get("parts_refreshed"))
    names = run.state.tables["media"]
    fresh = names[len(known) :] if has_successors else [name for name in names if name not in set(known)]
    return [open_part(run.store.root / name) for name in fresh]


def _asked_for_first(parts: Iterable[Part]) -> tuple[int, Counter[str]]:
    """How many links of these parts were asked for, and how often which reason kept one away."""
    asked, unreached = 0, Counter[str]()
    for part in parts:
        reasons = part.stats["reasons"]
        asked += part.num_rows - sum(reasons.get(reason, 0) for reason in NEVER_ASKED)
        unreached.update({reason: count for reason, count in reasons.items() if is_unreached(reason)})
    return asked, unreached


def _message(asked: int, unreached: int, reasons: Counter[str]) -> str:
    most = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(REASONS_SHOWN))
    return (
        f"outage: of {asked:,} links that were asked for, {unreached:,} were not reached{most and f' ({most})'}: "
        "the network, its resolver or all of their hosts are down. The store is whole; the next run asks for them "
        "again by itself. Where they are gone for good, say `download: {outage_links: 0}` in the recipe"
    )
