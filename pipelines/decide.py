"""Decide: a policy over the rows of a pool, batch by batch in threads; every rule is asked about every row.

Rules over one row are evaluated where the row lies. A rule over many rows (a cut, a quota, survivors, entry counts) is
first brought down to a few figures by one pass over just those columns that it and the rules above it need
(`pipelines/solve.py`); then one last pass writes the decisions. Each batch is computed by one thread, so the result has
the same bytes whatever the number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.policy import Balance, Dedupe, PolicyItem, Quota, Rule, Top, Weight
from pipelines import database
from pipelines.pool_rows import Rows
from pipelines.sparse import Sparse
from pipelines.views import DECIDED

Result = TypeVar("Result")
PREFIX = "tamis__"
"""Begins the names of columns that are not the pool's."""
AHEAD = 4
"""Batches that may wait for the main thread, beyond those being worked on."""


def columns_read(item: PolicyItem) -> list[str]:
    """Names that a rule reads, in order of appearance (the arguments of lambdas among them)."""
    match item:
        case Rule():
            return database.columns_of(item.predicate())
        case Top():
            return database.columns_of(item.by)
        case Quota():
            return [*database.columns_of(item.per), *(_ordering_columns(item.prefer) if item.prefer else ())]
        case Weight():
            return database.columns_of(item.value)
        case Dedupe():
            return _ordering_columns(item.prefer)
        case Balance():
            return [*database.columns_of(item.where), item.entries, "draw"]


def _ordering_columns(ordering: str) -> list[str]:
    return database.columns_of(f"row_number() over (order by {ordering}\n)")


def finite(expression: str) -> str:
    """SQL: the expression as a double, null where it is not finite."""
    return f"(case when isfinite(({expression}\n)::double) then ({expression}\n)::double end)"


def double(value: float | None) -> str:
    """SQL: a double with all its bits (a decimal literal may be rounded twice)."""
    return "null" if value is None else f"'{value!r}'::double"


def _sparse_columns(n: int, item: PolicyItem) -> list[str]:
    match item:
        case Quota():
            return [f"{PREFIX}num_{n}", f"{PREFIX}place_{n}"]
        case Dedupe():
            return [f"{PREFIX}duplicate_of_{n}", f"{PREFIX}duplicate_group_{n}"]
    return []


class Decider:
    """A policy over rows. `solve` first; then `decisions` and `kept` answer for single batches, `each` for all.

    Use as a context manager: it holds threads and databases.
    """

    def __init__(
        self,
        rows: Rows,
        policy: Sequence[PolicyItem],
        duplicates: pa.Table | Sequence[Path] = (),
        threads: int | None = None,
    ) -> None:
        """`duplicates`: media_uid and duplicate_group, as a table or as Parquet files."""
        self.rows, self.policy = rows, list(policy)
        self.threads = threads or len(os.sched_getaffinity(0))
        self.con = database.connect(threads=self.threads)
        self.sizes = list(rows.sizes)
        self.known = dict(rows.types)
        self.reads = [[name for name in columns_read(item) if name in self.known] for item in self.policy]
        self.solved: dict[int, dict[str, Any]] = {}
        """Figures of the rules over many rows, by place in the policy."""
        self.sparse: dict[str, tuple[Sparse, str]] = {}
        """Columns of few rows: name -> where they come from and their name there."""
        self.tables: set[str] = set()
        """Tables of the common database."""
        self._passed: dict[int, tuple[int, pa.Array]] = {}
        """Batch -> how many rules have been asked so far, and which rows passed all of them."""
        self._local = threading.local()
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="decide")
        self.duplicates = duplicates

    def __enter__(self) -> Decider:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)
        self.con.close()

    # batches in threads -----------------------------------------------------------------------------------------------

    def each(self, work: Callable[[int], Result], batches: Sequence[int] | None = None) -> Iterator[tuple[int, Result]]:
        """(batch, what `work` gives for it) in order; a few batches are worked on ahead."""
        todo = list(range(len(self.sizes)) if batches is None else batches)
        running: dict[int, Future[Result]] = {}
        started = 0
        for batch in todo:
            while started < len(todo) and len(running) < self.threads + AHEAD:
                running[todo[started]] = self._executor.submit(work, todo[started])
                started += 1
            yield batch, running.pop(batch).result()

    def worker(self) -> database.Connection:
        """This thread's own database, of one thread: its results do not depend on who came first."""
        if not hasattr(self._local, "con"):
            self._local.con = database.connect(threads=1)
        con: database.Connection = self._local.con
        return con

    # columns of one batch ---------------------------------------------------------------------------------------------

    def table(self, batch: int, columns: Sequence[str], until: int, since: int = 0) -> pa.Table:
        """Columns of a batch, with what the rules from `since` to before `until` need, and row numbers."""
        wanted = dict.fromkeys([*columns, *(name for reads in self.reads[since:until] for name in reads)])
        table = self.rows.read(batch, [*dict.fromkeys(["text_uid", *wanted])])
        table = table.append_column(f"{PREFIX}row", pa.array(np.arange(table.num_rows, dtype=np.int64)))
        for place in range(since, until):
            item = self.policy[place]
            for name in _sparse_columns(place, item):
                source, column = self.sparse[name]
                table = table.append_column(name, source.column(column, batch, table.num_rows))
            if isinstance(item, Balance):
                table = table.append_column(f"{PREFIX}probability_{place}", self.probabilities(table, place, item))
        return table

    def passes(self, since: int, until: int) -> list[str]:
        """SQL: one boolean for each of these rules, never null."""
        return [f"{self._passes(n)} as {PREFIX}pass_{n}" for n in range(since, until)]

    def asked(
        self, batch: int, until: int, columns: Sequence[str], extra: Mapping[str, str]
    ) -> tuple[pa.Table, pa.Array]:
        """`extra` (name -> SQL over `columns`) for all rows of a batch, and which passed all rules before `until`."""
        since, before = self._passed.get(batch, (0, None)) if until else (0, None)
        table = self.table(batch, columns, until, since)
        passed = " and ".join(f"{PREFIX}pass_{n}" for n in range(since, until)) or "true"
        fields = "".join(f", {expression} as {name}" for name, expression in extra.items())
        with self.candidates(table) as con:
            passes = "".join(f", {each}" for each in self.passes(since, until))
            found = database.arrow(
                con, f"select {passed} as {PREFIX}passed{fields} from (select *{passes} from candidates)"
            )
        now = found.column(f"{PREFIX}passed").combine_chunks()
        if until:
            now = now if before is None else pc.and_(before, now)
            self._passed[batch] = until, now
        return found.drop_columns([f"{PREFIX}passed"]), now

    @contextmanager
    def candidates(self, table: pa.Table, name: str = "candidates") -> Iterator[database.Connection]:
        """This thread's database with `table` in it."""
        con = self.worker()
        con.register(name, table)
        try:
            yield con
        finally:
            con.unregister(name)

    # the rules --------------------------------------------------------------------------------------------------------

    def _passes(self, n: int) -> str:
        match self.policy[n]:
            case Rule() as rule:
                return f"coalesce(({rule.predicate()}\n), false)"
            case Top() as top:
                value, solved = finite(top.by), self.solved[n]
                if solved["cut"] is None:
                    return "false"
                cut = double(solved["cut"])
                if solved["cut_uid"] is None:
                    return f"coalesce({value} >= {cut}, false)"
                tied = f"({value} = {cut} and text_uid <= {database.literal(solved['cut_uid'])})"
                return f"coalesce({value} > {cut} or {tied}, false)"
            case Quota() as quota:
                return f"(({quota.per}\n) is not null and {PREFIX}num_{n} is null)"
            case Dedupe():
                return f"({PREFIX}duplicate_of_{n} is null)"
            case Weight() as weight:
                return f"coalesce({finite(weight.value)} > 0, false)"
            case Balance() as balance:
                empty = f"len(coalesce({balance.entries}, [])) = 0"
                kept = f"{empty} and {'true' if balance.no_match == 'keep' else 'false'}"
                probability = f"{PREFIX}probability_{n}"
                return f"({probability} is null or {kept} or coalesce(draw < {probability}, false))"

    def probabilities(self, table: pa.Table, n: int, item: Balance) -> pa.Array:
        """Keep probability of each row of a batch by balancing; null out of its scope."""
        entries = f"coalesce({item.entries}, [])"
        with self.candidates(table) as con:
            matched = database.arrow(
                con,
                f"select {PREFIX}row as row, {entries} as entries from candidates "
                f"where coalesce(({item.where}\n), false)",
            )
        con.register("matched", matched)
        con.register("counts", self.solved[n]["counts"])
        found = database.arrow(con, database.query("select/balance"), {"t": item.t})
        con.unregister("matched")
        con.unregister("counts")
        probability = np.full(table.num_rows, np.nan)
        probability[found.column("row").to_numpy()] = found.column("keep_probability").to_numpy()
        if item.no_match == "keep":
            rows = matched.column("row").to_numpy()
            probability[rows[pc.equal(pc.list_value_length(matched.column("entries")), 0).to_numpy()]] = 1.0
        return pa.array(probability, mask=np.isnan(probability))

    # answers ----------------------------------------------------------------------------------------------------------

    def kept(self, batch: int) -> pa.Array:
        """Which rows of a batch the whole policy keeps."""
        return self.asked(batch, len(self.policy), [], {})[1]

    def decisions(self, batch: int) -> pa.Table:
        """The decisions about a batch, in the order of its rows (schema `DECIDED`)."""
        count = len(self.policy)
        extra = [name for name in ("draw",) if name in self.known and any("draw" in reads for reads in self.reads)]
        table = self.table(batch, extra, count)
        names = "".join(f"case when not {PREFIX}pass_{n} then {database.literal(item.name)} end, "
                        for n, item in enumerate(self.policy))  # fmt: skip
        saw = "".join(f"case when not {PREFIX}pass_{n} then {self._saw(n)} end, " for n in range(count))
        keeps = " and ".join(f"{PREFIX}pass_{n}" for n in range(count)) or "true"
        found = "lambda v: v is not null"
        with self.candidates(table) as con:
            answers = database.arrow(
                con,
                f"select {keeps} as kept, "
                f"case when {keeps} then [] else list_filter([{names}null], {found}) end::varchar[] as rejected_by, "
                f"case when {keeps} then [] else list_filter([{saw}null], {found}) end::varchar[] as saw, "
                f"{self._first('duplicate_of', 'varchar')} as duplicate_of, "
                f"{self._first('probability', 'double')} as keep_probability, "
                f"{'draw' if extra else 'null'}::double as draw, {self._weight()} as sampling_weight "
                f"from (select *{''.join(f', {each}' for each in self.passes(0, count))} from candidates)",
            )
        return answers.add_column(0, "text_uid", table.column("text_uid")).cast(DECIDED)

    def _first(self, what: str, kind: str) -> str:
        """SQL: the value of the first rule that gives one."""
        names = [name for name in self.sparse if name.startswith(f"{PREFIX}{what}")]
        if what == "probability":
            names = [f"{PREFIX}{what}_{n}" for n, item in enumerate(self.policy) if isinstance(item, Balance)]
        return f"coalesce({', '.join(names)})" if names else f"null::{kind}"

    def _weight(self) -> str:
        weights = [finite(item.value) for item in self.policy if isinstance(item, Weight)]
        return " * ".join(weights) or "null::double"

    def _saw(self, n: int) -> str:
        """SQL: the values that a rule saw, and what it asked of them, as JSON."""
        fields = {name: database.quoted(name) for name in self.reads[n]}
        match self.policy[n]:
            case Rule() as rule:
                fields |= {f"${name}": database.literal(value) if isinstance(value, str) else repr(value).lower()
                           for name, value in rule.at.items()}  # fmt: skip
            case Top() as top:
                if self.reads[n] != [top.by]:
                    fields["value"] = finite(top.by)
                fields["cut"] = double(self.solved[n]["cut"])
            case Quota() as quota:
                figures = {name: f"{PREFIX}{name}_{n}" for name in ("num", "place")}
                fields = {"per": f"({quota.per}\n)", **figures, "at_most": str(quota.at_most)}
            case Weight() as weight:
                fields["value"] = finite(weight.value)
            case Dedupe():
                fields = {name: f"{PREFIX}{name}_{n}" for name in ("duplicate_group", "duplicate_of")}
            case Balance():
                fields = {"keep_probability": f"{PREFIX}probability_{n}", "draw": "draw"}
        pairs = ", ".join(f"{database.literal(name)}: {value}" for name, value in fields.items())
        return f"to_json({{{pairs}}})::varchar" if fields else "'{}'"
