-- Texts for each metadata entry before and after balancing: where the head is cut and whether the tail is left whole.
-- in:  candidates (with entry_ids), decided
-- out: entry_id, texts (in the pool that match it, among those that balancing decides about), passed (of these, rejected
--      by nothing but balancing), kept
with scoped as (
    select
        d.text_uid,
        d.kept,
        -- balancing is the one rule that sees a keep probability
        len(list_filter(d.saw, lambda saw: not contains(saw, '"keep_probability":'))) = 0 as passed
    from decided d
    where d.keep_probability is not null
        or not exists (select 1 from decided where keep_probability is not null)  -- nothing is balanced: all texts
)
select entry_id, count(*) as texts, count(*) filter (where passed) as passed, count(*) filter (where kept) as kept
from (select s.*, unnest(c.entry_ids) as entry_id from scoped s join candidates c using (text_uid))
group by entry_id
order by texts desc, entry_id
