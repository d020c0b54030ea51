"""The report's figures: what each section of the page says, as plain rows; all counting is done by SQL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from curation.policy import Balance, Decontaminate, Dedupe, Gate, Policy, PolicyItem, Quota, Rule, Top, Weight
from curation.reasons import reason
from pipelines import database, report_charts
from pipelines.database import Connection
from pipelines.recipe import DOWNLOADED
from pipelines.store import State, Store

Rows = list[dict[str, Any]]
LANGUAGES, DOMAINS, ENTRIES, BINS = 25, 15, 12, 40


@dataclass(frozen=True)
class Packed:
    """The latest dataset version and, where it was packed from the present decisions, the policy that made them."""

    manifest: dict[str, Any]
    policy: list[PolicyItem]


def stored(name: str) -> str:
    """A stored report as a subquery (its last line may be a comment)."""
    return f"({database.query(f'report/{name}')}\n)"


def packed(con: Connection, store: Store, state: State) -> Packed | None:
    """The latest version; None before the first. The policy is left out where rules or counts are not the present."""
    if not state.versions:
        return None
    manifest = json.loads((store.version_path() / "manifest.json").read_text(encoding="utf-8"))
    policy = TypeAdapter(Policy).validate_python(manifest["policy"])
    rules = [row["rule"] for row in database.rows(con, "select rule from policy_rules order by place")]
    (kept,) = database.rows(con, "select count(*) filter (where kept) as texts from decided")
    same = rules == [item.name for item in policy] and kept["texts"] == manifest["num_texts"]
    return Packed(manifest, policy if same else [])


def explained(item: PolicyItem) -> str:
    """What a rule of the policy asks for, in its own terms."""
    match item:
        case Rule():
            return item.predicate()
        case Top():
            return f"top {100 * item.fraction:.4g}% by {item.by}" + (
                " of the pool" if item.among == "all" or item.of == "pool" else ""
            )
        case Quota():
            what = "at most" if item.more == "thin" else "nothing of those with more than"
            return f"{what} {item.at_most:,} {item.unit} for each {item.per}"
        case Weight():
            return f"weight {item.value}"
        case Gate():
            return f"of {item.of}, each {item.per} at least {100 * item.least:.4g}% of what all keep"
        case Decontaminate():
            return f"not in {', '.join(item.against)}"
        case Dedupe(of="texts"):
            return f"one text of each group, first by {item.prefer}"
        case Dedupe(of="semantic"):
            return f"none too like one that stays, first by {item.prefer}"
        case Dedupe():
            return f"one of each group, first by {item.prefer}"
        case Balance():
            return f"{balance_terms(item)} where {item.where}; no match: {item.no_match}"


def balance_terms(item: Balance) -> str:
    """By what a balance keeps how much."""
    by = (
        f" of each {item.by}"
        if item.by is not None
        else f", thresholds as in {item.per_language}"
        if item.per_language
        else ""
    )
    if item.t is not None:
        return f"t = {item.t:,}{by}"
    if item.most is not None:
        return f"at most {item.most:,}{by}"
    return f"{100 * (item.fraction or 0):.4g}% in all, sizes as count ^ {item.exponent:g}{by}"


def pool(con: Connection) -> dict[str, Any]:
    """Samples and texts of the pool, media by status, and what is kept."""
    (found,) = database.rows(
        con,
        "select (select count(*) from texts) as texts, (select count(distinct sample_uid) from texts) as samples, "
        "(select count(*) from decided) as decided, "
        "(select count(*) from decided where kept) as kept_texts, "
        "(select count(distinct sample_uid) from decisions where kept) as kept_samples, "
        "(select count(*) from media) as media, (select count(*) from media where status = 'ok') as ok, "
        "(select count(*) from media where status = 'failed') as failed, "
        "(select count(*) from media where status = 'refused') as refused",
    )
    return found


def funnel(con: Connection) -> Rows:
    """The stored funnel, with shares of the pool for the bars."""
    rows = database.rows(con, f"select * from {stored('funnel')} order by place")
    texts, samples = rows[0]["texts_left"] or 1, rows[0]["samples_left"] or 1
    for row in rows:
        row["text_share"], row["sample_share"] = row["texts_left"] / texts, row["samples_left"] / samples
        row["lost_share"] = row["texts_lost"] / texts
    return rows


def failures(con: Connection) -> Rows:
    """Reasons of the media that were not fetched: {reason, status, rows, share, example, meaning, is_transient}."""
    rows = database.rows(
        con,
        "select reason, status, count(*) as rows, count(*) / sum(count(*)) over () as share, "
        "arg_min(url, md5(media_uid)) as example, arg_min(detail, md5(media_uid)) as detail "
        "from media where status <> 'ok' group by reason, status order by rows desc, reason",
    )
    for row in rows:
        try:
            code = reason(row["reason"])
            row["meaning"], row["class"] = code.meaning, code.cls.value
        except KeyError:  # a store written by a later version may hold reasons that this one does not know
            row["meaning"], row["class"] = "", ""
    return rows


def rules(con: Connection, policy: list[PolicyItem]) -> Rows:
    """For each rule the texts that it is asked about and rejects, alone and with others, and the rule that most often
    rejects the same.

    Texts without a medium count at `downloaded` alone: rules about the medium see nothing there, and reject them all.
    """
    rows = database.rows(
        con,
        "with asked as (select text_uid, list_contains(rejected_by, $there) as is_gone, "
        "case when list_contains(rejected_by, $there) then [$there] else rejected_by end as rejected_by from decided), "
        "rejections as (select text_uid, rejected_by, unnest(rejected_by) as rule from asked), "
        "pairs as (select a.rule, other, count(*) as texts from (select rule, unnest(rejected_by) as other "
        "from rejections) a where other <> a.rule group by all), "
        "partners as (select rule, arg_max(other, (texts, other)) as partner, max(texts) as partner_texts "
        "from pairs group by rule) "
        "select p.rule, count(r.rule) as texts, count(*) filter (where len(rejected_by) = 1) as alone, "
        "count(*) filter (where len(rejected_by) > 1) as with_others, any_value(o.partner) as partner, "
        "any_value(o.partner_texts) as partner_texts, "
        "(select count(*) from asked where not is_gone or p.rule = $there) as asked "
        "from policy_rules p left join rejections r on r.rule = p.rule left join partners o on o.rule = p.rule "
        "group by p.rule, p.place order by p.place",
        {"there": DOWNLOADED},
    )
    asked = {item.name: explained(item) for item in policy}
    most = max((row["texts"] for row in rows), default=0) or 1
    for row in rows:
        row["asks"] = asked.get(row["rule"])
        row["alone_share"], row["others_share"] = row["alone"] / most, row["with_others"] / most
    return rows


def languages(con: Connection) -> dict[str, Any]:
    """The languages with the most texts and the others as one row, in two halves, and how many there are."""
    found = database.rows(con, f"select * from {stored('languages')} order by texts desc, language")
    rows = [{**row, "is_rest": False} for row in found[:LANGUAGES]]
    if len(found) > LANGUAGES:
        rest = found[LANGUAGES:]
        texts, kept = sum(row["texts"] for row in rest), sum(row["kept"] for row in rest)
        share = {"texts": texts, "kept": kept, "kept_share": kept / texts}
        rows.append({"language": f"{len(rest)} more", "is_rest": True, **share})
    middle = (len(rows) + 1) // 2
    return {"number": len(found), "halves": [rows[:middle], rows[middle:]]}


def domains(con: Connection) -> dict[str, Any]:
    """The hosts with the most samples and the others as one row, and how many there are."""
    rows = database.rows(
        con,
        f"with hosts as (select *, row_number() over (order by samples desc, host) as place from {stored('domains')}) "
        "select least(place, $most + 1) as place, any_value(host) as host, count(*) as number, "
        "sum(samples)::bigint as samples, sum(failed)::bigint as failed, sum(kept_samples)::bigint as kept_samples "
        "from hosts group by least(place, $most + 1) order by place",
        {"most": DOMAINS},
    )
    shown = [{**row, "is_rest": row["place"] > DOMAINS} for row in rows]
    return {"rows": shown, "number": sum(row["number"] for row in rows)}


def duplicates(con: Connection) -> dict[str, Any]:
    """Number of groups and of media in them, the pairs by kind and distance as a matrix, and how many of them the
    embeddings find, where these were compared."""
    (found,) = database.rows(
        con, "select count(distinct duplicate_group) as groups, count(duplicate_group) as media from duplicates"
    )
    pairs = database.rows(
        con,
        "select kind, coalesce(distance, 0) as distance, count(*) as pairs from duplicate_edges "
        "group by all order by kind, distance",
    )
    furthest = max((row["distance"] for row in pairs), default=0)
    kinds: dict[str, dict[str, Any]] = {}
    for row in pairs:
        kind = kinds.setdefault(row["kind"], {"pairs": 0, "by_distance": [0] * (furthest + 1)})
        kind["pairs"] += row["pairs"]
        kind["by_distance"][row["distance"]] += row["pairs"]
    largest_first = dict(sorted(kinds.items(), key=lambda each: -each[1]["pairs"]))
    recall = database.rows(con, f"select * from {stored('semantic_recall')} where recall is not null")
    beside = {row["pairs_by"]: row for row in recall}
    return {**found, "kinds": largest_first, "distances": list(range(furthest + 1)), "beside": beside}


def scores(con: Connection, policy: list[PolicyItem]) -> Rows:
    """A histogram for each `top` rule with its cut, and one of the CLIP score if there is one: {title, note, chart}."""
    charts = []
    columns = {row["column_name"] for row in database.rows(con, "describe candidates")}
    tops = [item for item in policy if isinstance(item, Top)]
    for item in tops:
        charts.append(_score(con, item.by, item.name, f"{item.name}: {explained(item)}"))
    if "clip_score" in columns and not any(item.by == "clip_score" for item in tops):
        charts.append(_score(con, "clip_score", None, "CLIP score"))
    return [chart for chart in charts if chart is not None]


def _score(con: Connection, by: str, rule: str | None, title: str) -> dict[str, Any] | None:
    database.columns_of(by, title)  # one expression and nothing else, whoever wrote the manifest
    con.execute(
        f"create or replace temp view scored as select d.kept, d.rejected_by, ({by}\n)::double as value "
        "from decisions d join candidates c using (text_uid)"
    )
    (found,) = database.rows(
        con,
        "select min(value) as lo, max(value) as hi, count(*) as texts, "
        "count(*) filter (where value is null) as missing, "
        "min(value) filter (where not list_contains(rejected_by, $rule)) as cut "
        "from scored where value is null or isfinite(value)",
        {"rule": rule or ""},
    )
    if found["lo"] is None or found["lo"] == found["hi"]:
        return None
    lo, width = found["lo"], (found["hi"] - found["lo"]) / BINS
    rows = database.rows(
        con,
        "select least(floor((value - $lo) / $width), $last)::integer as bin, count(*) filter (where kept) as kept, "
        "count(*) filter (where not kept) as rejected from scored where isfinite(value) group by bin order by bin",
        {"lo": lo, "width": width, "last": BINS - 1},
    )
    counts = {row["bin"]: (row["kept"], row["rejected"]) for row in rows}
    bins = [(lo + i * width, lo + (i + 1) * width, *counts.get(i, (0, 0))) for i in range(BINS)]
    chart = report_charts.histogram(bins, by, found["cut"] if rule else None)
    return {"title": title, "texts": found["texts"] - found["missing"], "missing": found["missing"], "chart": chart}


def balance(con: Connection, found: Packed | None) -> dict[str, Any] | None:
    """Entry counts before and after balancing: the chart and the head; None where no entries were matched."""
    columns = {row["column_name"] for row in database.rows(con, "describe candidates")}
    if "entry_ids" not in columns:
        return None
    con.execute(f"create or replace temp table entry_counts as select * from {stored('entry_counts')}")
    before = _counts(con, "select passed as n from entry_counts where passed > 0 order by n desc")
    after = _counts(con, "select kept as n from entry_counts where kept > 0 order by n desc")
    if not before:
        return None
    items = [item for item in found.policy if isinstance(item, Balance) and item.by is None] if found else []
    item = items[0] if items else None
    head = database.rows(
        con, "select * from entry_counts order by passed desc, entry_id limit $most", {"most": ENTRIES}
    )
    for row in head:
        row["name"] = row.pop("entry")
    chart = report_charts.ranks(before, after, item.t if item else None)
    (sums,) = database.rows(con, "select sum(passed)::bigint as passed, sum(kept)::bigint as kept from entry_counts")
    shares = report_charts.head_shares(before, after)
    share = {"head_before": sum(before[:ENTRIES]) / sums["passed"]}
    share["head_after"] = sum(after[:ENTRIES]) / sums["kept"] if sums["kept"] else 0.0
    figures = {"entries": len(before), "entries_after": len(after), "item": item, **share}
    return {"chart": chart, "shares": shares, "head": head, **figures}


def _counts(con: Connection, sql: str) -> list[int]:
    counts: list[int] = database.arrow(con, sql).column("n").to_pylist()
    return counts
