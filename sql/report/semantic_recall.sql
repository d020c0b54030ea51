-- Duplicate pictures by hashes beside those by embeddings: how many pairs of the one the other finds too.
-- in:  duplicate_edges, duplicates, semantic_edges
-- out: pairs_by (kind of pair by hashes, `hashes` for all of these, `embeddings` for the semantic ones), pairs,
--      found_by (embeddings | hashes), found (of these pairs; by hashes: in one duplicate group), recall (both null where no
--      embeddings of pictures were compared)
with alike as (select uid, other_uid, kind from semantic_edges where level = 'media'),
-- of equal vectors only the first is compared with others
first_of as (select other_uid as uid, min(uid) as leader from alike where kind = 'embedding (same)' group by all),
by_hashes as (
    select e.kind, coalesce(a.leader, e.media_uid) as one, coalesce(b.leader, e.other_uid) as two
    from duplicate_edges e
    left join first_of a on a.uid = e.media_uid
    left join first_of b on b.uid = e.other_uid
),
judged as (
    select h.kind, h.one = h.two or p.uid is not null as found
    from by_hashes h
    left join (select distinct uid, other_uid from alike) p
        on p.uid = least(h.one, h.two) and p.other_uid = greatest(h.one, h.two)
),
counted as (
    select kind as pairs_by, 'embeddings' as found_by, count(*) as pairs, count(*) filter (where found) as found
    from judged
    group by all
    union all
    select 'hashes', 'embeddings', count(*), count(*) filter (where found) from judged having count(*) > 0
    union all
    select 'embeddings', 'hashes', count(*), count(*) filter (where a.duplicate_group = b.duplicate_group)
    from alike p
    left join duplicates a on a.media_uid = p.uid
    left join duplicates b on b.media_uid = p.other_uid
    having count(*) > 0
)
select pairs_by, pairs, found_by,
    case when (select count(*) from alike) > 0 then found end as found,
    case when (select count(*) from alike) > 0 then round(found / pairs, 4) end as recall
from counted
order by pairs_by in ('hashes', 'embeddings'), pairs_by desc, pairs desc
