-- Media whose captions decide about a pair.
-- in:  looks (media_uid, look), near_pairs (look_a, look_b, sure)
-- out: media_uid
select media_uid
from looks
where look in (select unnest([look_a, look_b]) from near_pairs where not sure)
