-- Duplicate groups, largest first: how many media, how they were joined, and which sample survives.
-- in:  duplicates, duplicate_edges, ledger, media
-- out: duplicate_group, media, kinds, largest_distance, survivor_url
with edges as (
    select d.duplicate_group, list_sort(list(distinct e.kind)) as kinds, max(e.distance) as largest_distance
    from duplicate_edges e
    join duplicates d using (media_uid)
    group by all
),
members as (
    select d.duplicate_group, count(*) as media, min(m.url) filter (where s.sample_uid is not null) as survivor_url
    from duplicates d
    join media m using (media_uid)
    left join (select distinct sample_uid from ledger where duplicate_group is not null and duplicate_of is null) s
        on s.sample_uid = m.sample_uid
    where d.duplicate_group is not null
    group by all
)
select duplicate_group, media, kinds, largest_distance, survivor_url
from members
left join edges using (duplicate_group)
order by media desc, duplicate_group
