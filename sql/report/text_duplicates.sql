-- The largest groups of near-duplicate texts: how many texts and samples, how many are kept, and one of them.
-- in:  ledger
-- out: text_duplicate_group, texts, samples, kept, example
select
    text_duplicate_group,
    count(*) as texts,
    count(distinct sample_uid) as samples,
    count(*) filter (where kept) as kept,
    coalesce(min(text) filter (where kept), min(text)) as example
from ledger
where text_duplicate_group is not null
group by text_duplicate_group
order by texts desc, text_duplicate_group
limit 50
