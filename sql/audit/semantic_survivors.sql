-- Kept pairs of nearly one embedding although the policy removes one of each; rows removed for one that is removed too.
-- in:  decisions, semantic_edges
with removed as (
    select text_uid, semantic_duplicate_of as survivor from decisions where semantic_duplicate_of is not null
),
kept as (
    select media_uid as uid from decisions where kept union select text_uid from decisions where kept
)
select e.uid, 'kept beside what is too like it' as problem
from semantic_edges e
join kept a on a.uid = e.uid
join kept b on b.uid = e.other_uid
where exists (select 1 from removed)
union all
select r.text_uid, 'removed for one that is removed'
from removed r
join (
    select sample_uid as uid from decisions where semantic_duplicate_of is not null
    union select text_uid from decisions where semantic_duplicate_of is not null
) d on d.uid = r.survivor
