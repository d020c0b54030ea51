-- The survivor of each duplicate group: the best member that passed, or the best of all where none did.
-- in:  group_members (duplicate_group, media_uid, sample_uid, place, passed): place = rank by the policy's preference
-- out: duplicate_group, survivor (media_uid), survivor_sample (sample_uid)
select
    duplicate_group,
    arg_min(media_uid, (case when passed then 0 else 1 end, place)) as survivor,
    arg_min(sample_uid, (case when passed then 0 else 1 end, place)) as survivor_sample
from group_members
group by duplicate_group
