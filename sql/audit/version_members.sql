-- Members of the latest version that the decisions do not keep, kept texts that it lacks, and texts that it holds twice.
-- in:  members, versions, decided
with latest as (select version from versions where packed = (select max(packed) from versions)),
held as (select text_uid, count(*) as times from members where version in (select version from latest) group by all)
select coalesce(h.text_uid, d.text_uid) as text_uid, coalesce(h.times, 0) as times
from held h
full join (select text_uid from decided where kept) d using (text_uid)
where exists (select 1 from latest) and exists (select 1 from decided where kept)
    and (h.times is distinct from 1 or d.text_uid is null)
