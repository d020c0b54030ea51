-- Media with bytes and what duplicates are told by; in a fixed order, so that numbers stand for the same media everywhere.
-- in:  media, media_signals (media_uid, the columns of all media signals)
-- out: all columns of both, ordered by media_uid
select m.* exclude (bytes), s.* exclude (media_uid)
from media m
join media_signals s using (media_uid)
where m.status = 'ok'
order by m.media_uid
