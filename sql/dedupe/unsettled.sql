-- Media whose captions decide about a pair.
-- in:  looks (media_uid, look), near_pairs (look_a, look_b, sure), crowd_groups (look, crowd_group)
-- out: media_uid
select media_uid
from looks
where look in (select unnest([look_a, look_b]) from near_pairs where not sure) or look in (select look from crowd_groups)
