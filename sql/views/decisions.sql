-- The decisions, with the uids of what each text belongs to and the duplicate group of its medium.
-- in:  decided (text_uid, kept, rejected_by, saw, duplicate_of, keep_probability, draw, sampling_weight), texts, media, duplicates
-- out: text_uid, sample_uid, media_uid, the columns of decided, duplicate_group (smallest media_uid; null where alone)
select d.text_uid, t.sample_uid, m.media_uid, d.* exclude (text_uid), g.duplicate_group
from decided d
join texts t using (text_uid)
left join (select sample_uid, media_uid from media where role = 'primary') m on m.sample_uid = t.sample_uid
left join (select * from duplicates where duplicate_group is not null) g on g.media_uid = m.media_uid
