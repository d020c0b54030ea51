-- The texts that lose to another of their group: all but the best member that passed, or the best of all where none did.
-- in:  text_members (text_uid, text_duplicate_group, place, passed): place = rank by the policy's preference
-- out: text_uid, text_duplicate_group, text_duplicate_of (text_uid of the survivor)
with survivors as (
    select
        text_duplicate_group,
        arg_min(text_uid, (case when passed then 0 else 1 end, place)) as survivor
    from text_members
    group by text_duplicate_group
)
select m.text_uid, text_duplicate_group, s.survivor as text_duplicate_of
from text_members m
join survivors s using (text_duplicate_group)
where m.text_uid <> s.survivor
