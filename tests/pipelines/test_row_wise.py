"""Predicates in which NaN of a cast text becomes null are written anew from their syntax tree, and mean the same."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines import database
from pipelines.row_wise import is_true, ordering_without_nan, without_nan

ROWS = pa.table(
    {
        "a": ["0.1", "0.2", "0.9", None, "7", "-3"],
        "b": ["abc", "ABC", "a%c", None, "日本", "x'y"],
        "My Col": [1, 2, 3, 4, 5, None],
        "l": [[1, 2, 3], [], None, [5], [1, None], [7]],
        "s": [{"k": 1, "j": "u"}] * 6,
        "f": pa.array([0.1, 0.2, 0.3, None, 0.5, 1.0], pa.float32()),
        "d": pa.array([1, 2, 3, 4, 5, 6], pa.date32()),
        "n": [1, 2, 3, 4, 5, 6],
    }
)
PREDICATES = [
    "n not between 2 and 4 or n in (1, 2) or n not in (3)",
    "b like 'a\\%%' escape '\\' or b ilike 'A%' or b glob 'x*' or b similar to '[a-z]+' or b !~ '^a'",
    "b is distinct from 'abc' and b is not distinct from b",
    "n // 2 = 1 and n % 2 = 0 or 2 ** n > 8 or -n < -5",
    "(n & 1) = 1 and xor(n, 1) >= 0 and n << 1 > 2",
    "case n when 1 then true when 2 then false else null end",
    "case when n = 1 then 'p' when n = 2 then 'q' end = 'p'",
    '"My Col" > 2',
    "s.k = 1 and s['j'] = 'u' and l[1] = 1 or l[1:2] = [1, 2]",
    "len([x for x in l if x > 1]) = 2 or len(list_filter(l, lambda x: x > 1)) >= 1",
    "{'a': n}.a = 2 or map {'k': n}['k'] = 3",
    "extract(year from d) = 1970 and d + interval 3 days > date '1970-01-05'",
    "cast(n as decimal(10, 2)) = 2.00 or n::varchar(3) = '3'",
    "substring(b from 2 for 1) = 'b' or trim(both 'a' from b) = 'bc' or b[1] = 'x'",
    "b = 'x''y' or b = $$abc$$ or b = '日本' or b collate nocase = 'abc'",
    "f >= 0.3 and f * 2 > 0.6 or f = 0.1::float",
    "n = any([1, 2]) or (n, b) = (3, 'a%c')",
    "(n > 2) is not false or (n > 2) is unknown",
    "coalesce(n, 0) > 1 and nullif(n, 2) is null",
    "1 - (2 - n) = 3 or 8 / (n / 2) = 4 or not not (n > 5) -- brackets",
    "regexp_matches(b, '(?i)ABC') or strftime(d, '%d') = '03'",
]


@pytest.mark.parametrize("predicate", PREDICATES)
def test_what_is_written_anew_means_the_same(predicate: str) -> None:
    con = database.connect(threads=1)
    con.register("candidates", ROWS)
    asked = f"({predicate}\n) and (a::double <> 99 or a is null)"
    assert "nullif" in without_nan(asked)
    before, after = (database.arrow(con, f"select ({sql}) as v from candidates") for sql in (asked, without_nan(asked)))
    assert before.equals(after)
    assert len(set(before.column("v").to_pylist())) > 1
    told = database.arrow(con, f"select {is_true(predicate)} as v from candidates").column("v").to_pylist()
    plain = database.arrow(con, f"select ({predicate}\n) as v from candidates").column("v").to_pylist()
    assert told == [value is True for value in plain]


def test_what_casts_no_text_stays_as_it_is() -> None:
    for expression in ("f > 0.3 -- f", "n::bigint > 2", "l::double[] is not null"):
        assert without_nan(expression) == expression
    assert ordering_without_nan("f desc, n") == "f desc, n"
    with pytest.raises(ValueError, match="something is missing at its end"):
        is_true("n > ")
