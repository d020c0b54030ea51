-- The media that lose to another of their duplicate group: all but the best that passed, or the best of all where none did.
-- in:  members (batch, media_uid, sample_uid, group_number, passed, rows: of the texts of the medium, columns of {prefer});
--      {prefer} is replaced by the policy's ordering
-- out: batch, row, duplicate_of (sample_uid of the survivor)
with ranked as (
    -- numbers of rows only: what the winners and losers are called is looked up afterwards
    select rowid as member, first_value(rowid) over best as survivor
    from members
    window best as (partition by group_number order by passed desc, {prefer}, media_uid)
)
select loser.batch, unnest(loser.rows) as row, winner.sample_uid as duplicate_of
from ranked
join members loser on loser.rowid = ranked.member
join members winner on winner.rowid = ranked.survivor
where ranked.survivor <> ranked.member
