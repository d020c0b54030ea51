-- Groups of near-duplicate texts of which several are kept although the policy keeps one, or whose survivor is elsewhere.
-- in:  ledger
with grouped as (select * from ledger where text_duplicate_group is not null)
select text_duplicate_group, 'more than one text kept' as problem
from grouped
where exists (select 1 from grouped where text_duplicate_of is not null)
group by text_duplicate_group
having count(*) filter (where kept) > 1
union all
select text_duplicate_group, 'survivor outside the group'
from grouped g
where text_duplicate_of is not null
    and not exists (
        select 1 from grouped h
        where h.text_duplicate_group = g.text_duplicate_group and h.text_uid = g.text_duplicate_of
    )
