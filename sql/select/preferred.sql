-- The media of some duplicate groups, those of one group side by side, the most preferred of each first.
-- in:  members (tamis__member, tamis__group: number of its group, tamis__place: rank of its media_uid, columns of {prefer});
--      {prefer} is replaced by the policy's ordering
-- out: tamis__member, tamis__group
select tamis__member, tamis__group
from members
order by tamis__group, {prefer}, tamis__place
