-- MetaCLIP's keep probability 1 - prod(1 - t / max(count_e, t)) of each text in scope (arXiv 2309.16671, Algorithm 1).
-- in:  matched (text_uid, entries, passed): texts in scope; entries = ids of the entries matched; $t
-- out: text_uid, keep_probability (1 as soon as one entry is rare, 0 where none matches)
with counts as (
    select entry, count(*) as texts
    from (select unnest(entries) as entry from matched where passed)
    group by entry
),
probabilities as (
    select text_uid, entry, $t / greatest(coalesce(texts, 0), $t)::double as p
    from (select text_uid, unnest(entries) as entry from matched)
    left join counts using (entry)
)
select
    m.text_uid,
    -- the sum of logarithms keeps what a long product of small numbers would lose
    coalesce(case when max(p.p) >= 1 then 1.0 else 1 - exp(sum(ln(1 - p.p)) filter (where p.p < 1)) end, 0.0)
        as keep_probability
from matched m
left join probabilities p using (text_uid)
group by m.text_uid
