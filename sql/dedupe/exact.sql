-- Media that share a value: each linked to the smallest media_uid that has it.
-- in:  valued (media_uid, value); $kind
-- out: media_uid, other_uid, kind, distance
select media_uid, first_uid as other_uid, $kind as kind, 0::integer as distance
from (select media_uid, min(media_uid) over (partition by value) as first_uid from valued where value is not null)
where media_uid <> first_uid
