-- Sources without a row (pictures beside sounds are none) among the segments, segments of no source, and segments that are no range of theirs.
-- in:  sources (media as downloaded), segments
select s.media_uid, 'source without a row' as problem
from sources s
left join segments g on g.source_uid = s.media_uid
where g.media_uid is null and s.role = 'primary' and exists (select 1 from segments)
union all
select g.media_uid, 'segment of no source'
from segments g
left join sources s on s.media_uid = g.source_uid
where s.media_uid is null
union all
select media_uid, 'segment without a range'
from segments
where status = 'ok' and not coalesce(start_s >= 0 and end_s > start_s, false)
union all
select s.media_uid, 'segments of a source that is not there'
from sources s
join segments g on g.source_uid = s.media_uid
where s.status <> 'ok' and g.status = 'ok'
