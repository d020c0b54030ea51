-- Samples that do not have exactly one primary medium once something was fetched.
-- in:  texts, media
select t.sample_uid, count(m.media_uid) as media
from (select distinct sample_uid from texts) t
left join media m on m.sample_uid = t.sample_uid and m.role = 'primary'
where exists (select 1 from media)
group by t.sample_uid
having count(m.media_uid) <> 1
