-- The share of each group that its quota leaves: the first draw that is too many, so that exactly those below it stay.
-- in:  grouped (group_key, unused_draw: 0 to below 1), found (group_key, allowed)
-- out: group_key, share (1 where the whole group stays)
with ranked as (
    select group_key, unused_draw, allowed,
        row_number() over (partition by group_key order by unused_draw) as place
    from grouped
    join found using (group_key)
)
select group_key, coalesce(min(unused_draw) filter (where place > allowed), 1.0) as share
from ranked
group by group_key
