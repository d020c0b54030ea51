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
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from curation.policy import Balance, Decontaminate, Dedupe, Gate, PolicyItem, Quota, Rule, Top, Weight
from pipelines import balance, database
from pipelines.balance import PROBABILITY
from pipelines.decided import FIXED, Asked
from pipelines.pool_rows import Rows
from pipelines.row_wise import is_true
from pipelines.rule_sql import PREFIX, balances, columns_read, double, finite, sparse_columns, sparse_names
from pipelines.select_duplicates import tables_read
from pipelines.sparse import Sparse
from pipelines.yaml_place import RecipeError

Result = TypeVar("Result")
Arrays = Mapping[str, np.ndarray]
VERSION = 5
"""Of what decides about rows in this file, solve*.py, quotas.py, group_ranks.py and balance.py, and in sql/select/."""
MEMORY_LIMIT = "2GB"
"""Of the common database, beyond which it spills."""
AHEAD = 4
"""Batches that may wait for the main thread, beyond those being worked on."""


def passed_before(decider: Decider, batch: int, until: int) -> pa.Array:
    """Which rows passed the rules before `until`; 0 stands for all rows."""
    if until == 0:
        return pa.array(np.ones(decider.sizes[batch], dtype=bool))
    return decider.asked(batch, until, [], {})[1]


def blame(item: PolicyItem, error: database.SqlError) -> NoReturn:
    """Raises RecipeError for a rule whose SQL fails on the values of some row; what is the machine's doing, a full disk
    say, is raised again as it is."""
    if database.is_of_the_machine(error):
        raise error
    raise RecipeError(
        f"the rule {item.name!r} cannot be asked of every row: {str(error).splitlines()[0]} (try_cast gives null where "
        "a value does not fit its type; ::bigint and ::double hold larger numbers)"
    ) from error


class Said(Protocol):
    """What a rule over many rows says of those that it rejects."""

    def lost(self, batch: int, size: int) -> np.ndarray:
        """bool (size): which rows of a batch it rejects."""

    def column(self, name: str, batch: int, size: int) -> pa.Array | pa.ChunkedArray:
        """What it says of each row of a batch, null where it does not reject it."""


class Decider:
    """A policy over rows. `solve` first; then `decisions` and `kept` answer for single batches, `each` for all.

    Use as a context manager: it holds threads and databases.
    """

    def __init__(
        self,
        rows: Rows,
        policy: Sequence[PolicyItem],
        searches: Mapping[str, pa.Table | Sequence[Path]] | None = None,
        threads: int | None = None,
        spill: Path | None = None,
    ) -> None:
        """`searches`: what the stage dedupe found, such as `duplicates`: tables or Parquet files by name. `spill`: a
        folder for what does not fit into memory."""
        self.rows, self.policy, self.spill = rows, list(policy), spill
        self.threads = threads or len(os.sched_getaffinity(0))
        self.con = database.connect(threads=self.threads, spill=spill, memory_limit=MEMORY_LIMIT)
        self.sizes = list(rows.sizes)
        self.known = dict(rows.types)
        self.reads = [[name for name in columns_read(item) if name in self.known] for item in self.policy]
        self.solved: dict[int, dict[str, Any]] = {}
        """Figures of the rules over many rows, by place in the policy."""
        self.said: dict[int, Said] = {}
        """By place in the policy: what a rule over many rows says of those that it rejects."""
        self.tables: set[str] = set()
        """Tables of the common database."""
        self._rejections: dict[int, tuple[int, np.ndarray]] = {}
        """Batch -> how many rules have been asked so far, and for each row a bit for every one that rejects it."""
        self._bits = np.min_scalar_type((1 << len(self.policy)) - 1)
        self._local = threading.local()
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="decide")
        self.searches = dict(searches or {})

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

    def fill(self, name: str, batch: int, rows: pa.Table) -> None:
        """Append the rows of a batch to a table of the common database, with its number as `tamis__batch`."""
        self.con.register("incoming", rows)
        statement = f"insert into {name}" if name in self.tables else f"create table {name} as"
        self.con.execute(f"{statement} select {batch}::integer as {PREFIX}batch, * from incoming")
        self.con.unregister("incoming")
        self.tables.add(name)

    def drop(self, *names: str) -> None:
        """Forget tables of the common database."""
        for name in names:
            self.tables.discard(name)
            self.con.execute(f"drop table if exists {name}")

    def worker(self) -> database.Connection:
        """This thread's own database, of one thread: its results do not depend on who came first."""
        if not hasattr(self._local, "con"):
            self._local.con = database.connect(threads=1)
        con: database.Connection = self._local.con
        return con

    # columns of one batch ---------------------------------------------------------------------------------------------

    def table(
        self,
        batch: int,
        columns: Sequence[str],
        until: int,
        since: int = 0,
        balance_at: int = -1,
        all_said: bool = False,
    ) -> pa.Table:
        """Columns of a batch, with what the rules from `since` to before `until` need, and row numbers.

        A balance (or one at `balance_at`) needs what the balances before it say, too. `all_said`: with all that rules
        over many rows say of those that they reject.
        """
        places = list(range(since, until))
        last = max([balance_at, *(n for n in places if isinstance(self.policy[n], Balance))])
        earlier = [n for n in balances(self.policy, last) if n not in places]
        # what searches found was judged when the rule was solved
        asking = [n for n in [*earlier, *places] if not isinstance(self.policy[n], Dedupe | Decontaminate)]
        reads = [name for n in asking for name in self.reads[n]]
        ties = any(self.solved.get(n, {}).get("cut_uid") is not None for n in places)
        names = dict.fromkeys([*columns, *reads, *(["text_uid"] if ties else [])])
        table = self.rows.read(batch, list(names) or ["text_uid"])
        table = table.append_column(f"{PREFIX}row", pa.array(np.arange(table.num_rows, dtype=np.int64)))
        for n in sorted([*earlier, *places]):
            item = self.policy[n]
            if n in self.said:
                table = table.append_column(f"{PREFIX}lost_{n}", pa.array(self.said[n].lost(batch, table.num_rows)))
                for name, column in zip(sparse_names(n, item), sparse_columns(item), strict=True) if all_said else ():
                    table = table.append_column(name, self.said[n].column(column, batch, table.num_rows))
            if isinstance(item, Balance):
                table = table.append_column(f"{PROBABILITY}{n}", balance.probabilities(self, table, n, item))
        return table

    def asked(
        self, batch: int, until: int, columns: Sequence[str], extra: Mapping[str, str]
    ) -> tuple[pa.Table, pa.Array]:
        """`extra` (name -> SQL over `columns`) for all rows of a batch, and which passed all rules before `until`."""
        since, before = self._rejections.get(batch, (0, self._bits.type(0))) if until else (0, self._bits.type(0))
        at = until if until < len(self.policy) and isinstance(self.policy[until], Balance) else -1
        table = self.table(batch, columns, until, since, at)
        found = self._judged(table, since, until, extra)
        rejections = found.column("rejections").to_numpy().astype(self._bits) | before
        if until:
            self._rejections[batch] = until, rejections
        return found.drop_columns(["rejections"]), pa.array(rejections == 0)

    def _judged(self, table: pa.Table, since: int, until: int, extra: Mapping[str, str]) -> pa.Table:
        """`rejections` by the rules from `since` to before `until`, and `extra`, of each row."""
        passes = "".join(f", {self._passes(n)} as {PREFIX}pass_{n}" for n in range(since, until))
        fields = "".join(f", {expression} as {name}" for name, expression in extra.items())
        bits = " + ".join(f"(not {PREFIX}pass_{n})::bigint * {1 << n}" for n in range(since, until)) or "0"
        with self.candidates(table) as con:
            try:
                return database.arrow(
                    con, f"select ({bits})::bigint as rejections{fields} from (select *{passes} from candidates)"
                )
            except database.SqlError as error:
                self._blame_one(con, range(since, until), error)

    def _blame_one(self, con: database.Connection, asked: range, error: database.SqlError) -> NoReturn:
        """`blame` the rule that some row's value does not go with: what the binder lets through may fail on values."""
        for n in asked:
            try:
                con.execute(f"select count(*) filter (where {self._passes(n)}) from candidates").fetchall()
            except database.SqlError as own:
                blame(self.policy[n], own)
        if asked.stop < len(self.policy):
            blame(self.policy[asked.stop], error)
        raise error

    @contextmanager
    def candidates(self, table: pa.Table, name: str = "candidates") -> Iterator[database.Connection]:
        """This thread's database with `table` in it."""
        con = self.worker()
        con.register(name, table)
        try:
            yield con
        finally:
            con.unregister(name)

    def remembered(self, n: int, find: Callable[[], pa.Table]) -> pa.Table:
        """What `find` gives for rule `n`, or what it gave when the same rules above read the same tables.

        A table with the columns `batch` and `row`, ordered by them.
        """
        read, names = self._read_until(n)
        return self.kept_of("rejected", ["rejected", VERSION, self.policy[: n + 1]], read, names, find)

    def remembered_arrays(self, name: str, layout: int, n: int, find: Callable[[], Arrays]) -> Arrays:
        """The same for arrays. `layout`: a number that changes with what they mean."""
        read, names = self._read_until(n)
        return self.arrays_of(name, [name, VERSION, layout, self.policy[: n + 1]], read, names, find)

    def _read_until(self, n: int) -> tuple[list[str], list[str]]:
        """Tables of searches, and columns, that rule `n` and those above it read."""
        read = sorted({table for item in self.policy[: n + 1] for table in tables_read(item)})
        return read, [name for reads in self.reads[: n + 1] for name in reads]

    def kept_of(
        self, name: str, key: object, searches: Sequence[str], columns: Sequence[str], find: Callable[[], pa.Table]
    ) -> pa.Table:
        """What `find` makes of these tables of searches and columns, or what it made of the same ones before."""
        names = self._file_names(searches)
        if names is None:
            return find()
        return self.rows.remembered(name, [key, names], columns, lambda: Sparse(find()).table)

    def arrays_of(
        self, name: str, key: object, searches: Sequence[str], columns: Sequence[str], find: Callable[[], Arrays]
    ) -> Arrays:
        """The same for arrays, which are pages of a file then."""
        names = self._file_names(searches)
        return find() if names is None else self.rows.remembered_arrays(name, [key, names], columns, find)

    def _file_names(self, searches: Sequence[str]) -> list[tuple[str, list[str]]] | None:
        """What stands for the content of these tables; None where one is in memory: no name tells it from another."""
        found = []
        for table in searches:
            given = self.searches.get(table, ())
            if isinstance(given, pa.Table):
                return None
            found.append((table, [path.name for path in given]))
        return found

    # the rules --------------------------------------------------------------------------------------------------------

    def _passes(self, n: int) -> str:
        match self.policy[n]:
            case Rule() as rule:
                return is_true(rule.predicate())
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
                return f"(({quota.per}\n) is not null and not {PREFIX}lost_{n})"
            case Dedupe() | Decontaminate():
                return f"(not {PREFIX}lost_{n})"
            case Weight() as weight:
                return f"coalesce({finite(weight.value)} > 0, false)"
            case Gate():
                return "true"
            case Balance():
                this, so_far = f"{PROBABILITY}{n}", balance.prior(balances(self.policy, n))
                return f"({this} is null or coalesce(draw / coalesce({so_far}, 1.0) < {this}, false))"

    # answers ----------------------------------------------------------------------------------------------------------

    def kept(self, batch: int) -> pa.Array:
        """Which rows of a batch the whole policy keeps."""
        return self.asked(batch, len(self.policy), [], {})[1]

    def asked_policy(self) -> Asked:
        """The policy with what `solve` found, as its decisions are read."""
        cuts = {n: self.solved[n]["cut"] for n, item in enumerate(self.policy) if isinstance(item, Top)}
        return Asked(self.policy, self.reads, cuts)

    def decisions(self, batch: int) -> pa.Table:
        """The decisions about a batch, in the order of its rows, as they are stored (`pipelines/decided.py`)."""
        count, asked = len(self.policy), self.asked_policy()
        later = asked.later_fields()
        table = self.table(batch, ["text_uid", *(name for name in FIXED if name in later)], count, all_said=True)
        since, before = self._rejections.get(batch, (0, self._bits.type(0)))
        answers = self._judged(table, since, count, later)
        rejections = answers.column("rejections").to_numpy() | before.astype(np.int64)
        made = asked.stored(table, answers.set_column(0, "rejections", pa.array(rejections)))
        # how the columns were read must not show in the bytes: pages end where chunks do
        return made.combine_chunks()
