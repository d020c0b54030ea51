-- Texts of sources that are not on each segment of their source.
-- in:  sources (media as downloaded), source_texts, segments, segment_texts
select t.text_uid, g.media_uid
from source_texts t
join sources s on s.sample_uid = t.sample_uid and s.role = 'primary'
join segments g on g.source_uid = s.media_uid
left join (select distinct sample_uid, source_text_uid from segment_texts) x
    on x.sample_uid = g.sample_uid and x.source_text_uid = t.text_uid
where x.sample_uid is null
