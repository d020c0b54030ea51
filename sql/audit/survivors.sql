-- Duplicate groups with more than one kept sample although the policy deduplicates, or whose survivor is not in the group.
-- in:  ledger
with grouped as (select duplicate_group, sample_uid, duplicate_of, kept from ledger where duplicate_group is not null)
select duplicate_group, 'more than one sample kept' as problem
from grouped
where exists (select 1 from grouped where duplicate_of is not null)
group by duplicate_group
having count(distinct sample_uid) filter (where kept) > 1
union all
select duplicate_group, 'survivor outside the group'
from grouped g
where duplicate_of is not null
    and not exists (select 1 from grouped h where h.duplicate_group = g.duplicate_group and h.sample_uid = g.duplicate_of)
