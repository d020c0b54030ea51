-- The media of duplicate groups, those of one group side by side, the most preferred of each first.
-- in:  members (batch, member, group_number, uid_place: rank of the media_uid, columns of {prefer}); {prefer} is replaced by
--      the policy's ordering
-- out: member
select member
from members
order by group_number, {prefer}, uid_place
