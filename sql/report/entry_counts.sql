-- Texts for each metadata entry before and after balancing: where the head is cut and whether the tail is left whole.
-- in:  entry_matches (text_uid, entry_id), entries (entry_id, language, entry), decided
-- out: entry_id, language, entry (null where the store does not say what its ids stand for), texts (in the pool that
--      match it, among those that balancing decides about), passed (of these, rejected by nothing but balancing), kept
with scoped as (
    select
        d.text_uid,
        d.kept,
        -- balancing is the one rule that sees a keep probability
        len(list_filter(d.saw, lambda saw: not contains(saw, '"keep_probability":'))) = 0 as passed
    from decided d
    where d.keep_probability is not null
        or not exists (select 1 from decided where keep_probability is not null)  -- nothing is balanced: all texts
),
counts as (
    select
        m.entry_id,
        count(*) as texts,
        count(*) filter (where s.passed) as passed,
        count(*) filter (where s.kept) as kept
    from scoped s
    join entry_matches m using (text_uid)
    group by m.entry_id
)
select c.entry_id, e.language, e.entry, c.texts, c.passed, c.kept
from counts c
left join entries e using (entry_id)
order by c.texts desc, c.entry_id
