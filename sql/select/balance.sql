-- MetaCLIP's keep probability 1 - prod(1 - t / max(count_e, t)) of each text in scope (arXiv 2309.16671, Algorithm 1).
-- in:  matched (row, entries): texts in scope; entries = ids of the entries matched; counts (entry, texts); $t
-- out: row, keep_probability (1 as soon as one entry is rare, 0 where none matches)
with probabilities as (
    select row, entry, $t / greatest(coalesce(texts, 0), $t)::double as p
    from (select row, unnest(entries) as entry from matched)
    left join counts using (entry)
)
select
    m.row,
    -- the sum of logarithms keeps what a long product of small numbers would lose; its order is fixed, so are its bits
    coalesce(
        case when max(p.p) >= 1 then 1.0 else 1 - exp(sum(ln(1 - p.p) order by p.entry) filter (where p.p < 1)) end, 0.0
    ) as keep_probability
from matched m
left join probabilities p using (row)
group by m.row
