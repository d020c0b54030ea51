-- Pairs of media that are near-duplicates: of two looks, the smallest media_uid of each; where the look alone does not
-- settle it, the smallest two that share a caption; of a crowd's group, all that share a caption with the first of them.
-- in:  looks (media_uid, look), near_pairs (look_a, look_b, kind, distance, sure), captions (media_uid, caption),
--      crowd_groups (look, crowd_group)
-- out: media_uid < other_uid, kind, distance (null where a crowd joined them)
with firsts as (select look, min(media_uid) as media_uid from looks group by look),
said as (select l.look, c.caption, min(l.media_uid) as media_uid from looks l join captions c using (media_uid) group by all),
joined as (
    select a.media_uid as one, b.media_uid as two, p.kind, p.distance
    from near_pairs p
    join firsts a on a.look = p.look_a
    join firsts b on b.look = p.look_b
    where p.sure
    union all
    select pair.one, pair.two, kind, distance
    from (
        select min({'one': least(a.media_uid, b.media_uid), 'two': greatest(a.media_uid, b.media_uid)}) as pair,
            p.kind, p.distance
        from near_pairs p
        join said a on a.look = p.look_a
        join said b on b.look = p.look_b and b.caption = a.caption
        where not p.sure
        group by p.look_a, p.look_b, p.kind, p.distance
    )
    union all
    select distinct one, media_uid, 'crowd, caption', null
    from (
        select media_uid, min(media_uid) over (partition by crowd_group, caption) as one
        from said
        join crowd_groups using (look)
    )
    where one <> media_uid
)
select least(one, two) as media_uid, greatest(one, two) as other_uid, 'picture (' || kind || ')' as kind, distance
from joined
