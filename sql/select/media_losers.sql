-- The media that lose to another of their duplicate group: all but the best that passed, or the best of all where none did.
-- in:  members (batch, media_uid, sample_uid, duplicate_group, passed, rows: of the texts of the medium, columns of {prefer});
--      {prefer} is replaced by the policy's ordering
-- out: batch, row, duplicate_group, duplicate_of (sample_uid of the survivor)
with ranked as (
    select batch, media_uid, rows, duplicate_group,
        first_value(media_uid) over best as survivor,
        first_value(sample_uid) over best as survivor_sample
    from members
    window best as (partition by duplicate_group order by passed desc, {prefer}, media_uid)
)
select batch, unnest(rows) as row, duplicate_group, survivor_sample as duplicate_of
from ranked
where survivor <> media_uid
