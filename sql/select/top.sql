-- The last row that a `top` rule keeps: all rows at or above it stay.
-- in:  scored (text_uid, score, passed): score null or not, passed = passed all rules above; $fraction
-- out: one row (cut_score, cut_uid), none where nothing passed
with ranked as (
    select score, text_uid,
        row_number() over (order by score desc, text_uid) as place,
        count(*) over () as total
    from scored
    where passed and score is not null
)
select score as cut_score, text_uid as cut_uid
from ranked
where place = cast(ceil($fraction * total) as bigint)
